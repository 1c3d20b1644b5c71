"""Breaks the code by hand, one change at a time, and shows that the test that guards it fails.

    python bench/broken.py            # every change of broken.toml
    python bench/broken.py export     # those whose test's name contains a word

`broken.toml` lists each change: a module, a line of it before and after, and the test that must notice. These are the
tests that once compared what a tiny training happened to learn, and could pass while nothing was compared. Each test
runs twice in a copy of the checkout: as it is (it must pass), and with the change (it must fail). Results are written
to `bench/results/broken.json`. Takes some 20 s a change on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE / "results/broken.json"


@dataclass(frozen=True)
class Change:
    """One change of a module (below the package), and the test (below `tests`) that guards it."""

    test: str
    module: str
    before: str
    after: str


Row = dict[str, str | bool]
"""A change as a mapping, and how its test ended without and with it."""


def read_changes() -> list[Change]:
    """Return the changes of `broken.toml`.

    Raises:
        SystemExit: a line that is to be changed is not in its module exactly once.
    """
    changes = [Change(**one) for one in tomllib.loads((HERE / "broken.toml").read_text(encoding="utf-8"))["change"]]
    for one in changes:
        found = (HERE.parent / "src/facemask_train" / one.module).read_text(encoding="utf-8").count(one.before)
        if found != 1:
            sys.exit(f"broken.toml: {one.module} has {one.before!r} {found} times, not once")
    return changes


def passes(root: Path, test: str) -> bool:
    """Return whether a test passes in the copy at `root`. It must be collected there."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:randomly", "-m", "", f"tests/{test}"]
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, check=False, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{test}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def fails_when_broken(root: Path, change: Change) -> bool:
    path = root / "src/facemask_train" / change.module
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(change.before, change.after), encoding="utf-8")
    try:
        return not passes(root, change.test)
    finally:
        path.write_text(text, encoding="utf-8")


def with_earlier(rows: list[Row]) -> list[Row]:
    """Return these results, and those of earlier runs on the other changes, in the order of `broken.toml`."""
    earlier = json.loads(RESULT.read_text(encoding="utf-8"))["changes"] if RESULT.exists() else []
    by_test = {row["test"]: row for row in [*earlier, *rows]}
    return [by_test[one.test] for one in read_changes() if one.test in by_test]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("word", nargs="?", default="", help="only the changes whose test's name contains it")
    word = parser.parse_args().word
    rows = []
    with tempfile.TemporaryDirectory(prefix="broken-") as folder:
        root = Path(folder)
        for name in ("src", "tests", "configs"):
            shutil.copytree(HERE.parent / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE.parent / "pyproject.toml", root)
        for change in read_changes():
            if word in change.test:
                row = {"passes": passes(root, change.test), "fails when broken": fails_when_broken(root, change)}
                rows.append(asdict(change) | row)
                print(*row.values(), change.test, flush=True)
    record = {"command": "python bench/broken.py", "date": time.strftime("%Y-%m-%d"), "changes": with_earlier(rows)}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(not all(row["passes"] and row["fails when broken"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
