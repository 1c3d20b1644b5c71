"""What hostile input costs: seconds, peak memory and exit code of a build, above the same build without it.

    python bench/hostile.py CASES [--source OTHER/src]

CASES holds project roots, each with configs/sources.yaml, configs/ensembles/s.yaml and the data of one hostile
case, and one named `plain` without any. Each is copied, fetched, and built with `fmask build-dataset --version s`, for
90 s at most. `--source` runs another checkout, for figures before a change. Prints a table in Markdown, and updates
`bench/results/hostile.json` under the name of the commit.
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
from dataclasses import asdict, dataclass
from pathlib import Path

RESULT = Path(__file__).parent / "results/hostile.json"
LIMIT = 90.0


@dataclass(frozen=True)
class Cost:
    """Of one build. `exit` is None if it was ended after `LIMIT` seconds; `message` is the last line but hints."""

    case: str
    exit: int | None
    seconds: float
    megabytes: float
    message: str


def run(case: Path, source: Path, scratch: Path) -> Cost:
    """Build a copy of a case and measure it. Its workers are in its session, and end with it."""
    root = scratch / case.name
    subprocess.run(["cp", "-a", "--sparse=always", str(case), str(root)], check=True)
    log = scratch / f"{case.name}.log"
    fmask = f"{sys.executable} -m facemask_train"
    command = ["sh", "-c", f"{fmask} fetch s --root {root} && {fmask} build-dataset --version s --root {root}"]
    environment = os.environ | {"PYTHONPATH": str(source)}
    began = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        peak = 0
        while process.poll() is None and time.monotonic() - began < LIMIT:
            peak = max(peak, memory(process.pid))
            time.sleep(0.02)
    seconds = time.monotonic() - began
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()
    ended = seconds >= LIMIT
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "")
    shutil.rmtree(root)
    text = said.replace(str(scratch), "").replace("|", "/")[:160]
    return Cost(case.name, None if ended else process.returncode, round(seconds, 1), round(peak / 1e6), text)


def memory(pid: int) -> int:
    """Return the resident bytes of a process and of all processes below it."""
    import psutil

    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    given = parser.parse_args()
    git = ["git", "-C", str(given.source), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        costs = [run(case, given.source, Path(folder)) for case in sorted(given.cases.iterdir())]
    plain = next(one for one in costs if one.case == "plain")
    print("| case | exit | s above | MB above | message |\n| --- | --- | --- | --- | --- |")
    for one in costs:
        above = one.seconds - plain.seconds, one.megabytes - plain.megabytes
        print(f"| {one.case} | {one.exit} | {above[0]:.1f} | {above[1]:.0f} | {one.message} |")
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[commit] = {"date": time.strftime("%Y-%m-%d"), "builds": [asdict(one) for one in costs]}
    RESULT.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
