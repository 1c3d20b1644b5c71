"""How long Python takes to import the package, and `fmask --help` to answer, before and after a change.

    python bench/startup.py BEFORE [--rounds 21]    # BEFORE: a checkout of the commit to compare with

Whole processes, run alternately; medians in milliseconds of processor time (user and system), which other work on the
machine disturbs less than wall time. `empty` is `python -c pass`. Differences are taken round by round. Writes
bench/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
HELP = ("-m", "facemask_train", "--help")
IMPORT = ("-c", "import facemask_train")


def milliseconds(arguments: tuple[str, ...], checkout: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def commit(checkout: Path) -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    before, after = given.before.resolve(), HERE.parent
    kinds = {
        "empty": (("-c", "pass"), after),
        "import before": (IMPORT, before),
        "import": (IMPORT, after),
        "--help before": (HELP, before),
        "--help": (HELP, after),
    }
    for arguments, checkout in kinds.values():  # writes the bytecode, fills the caches
        milliseconds(arguments, checkout)
    rounds = [{name: milliseconds(*kind) for name, kind in kinds.items()} for _ in range(given.rounds)]
    found = {
        "commits": {"before": commit(before), "after": commit(after)},
        "rounds": given.rounds,
        "load": round(os.getloadavg()[0], 1),
        "milliseconds": {name: round(median(one[name] for one in rounds), 1) for name in kinds},
        "import over empty": round(median(one["import"] - one["empty"] for one in rounds), 1),
        "--help, after less before": round(median(one["--help"] - one["--help before"] for one in rounds), 1),
    }
    (HERE / "results" / "startup.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
