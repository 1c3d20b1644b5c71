"""Crash tests: run a script in a new process that is killed at a chosen point, and compare the folders.

A point is the moment before, and the one after: each rename (`os.replace`, which `Path.replace` calls, and
`os.rename`), each marker (`folders.write_json`), and each removal of a folder (`shutil.rmtree`). Points are numbered
from 1 in the order in which the script comes to them. Death is `os._exit`: no `finally` runs, no buffer is written.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEATH = 86
_points = _death = 0


def tree(folder: Path) -> dict[str, str]:
    """Return every file and folder below a folder, hidden ones too, with the digest of each file's content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
        for path in sorted(folder.rglob("*"))
    }


def die_at(point: int, script: str, *arguments: object) -> bool:
    """Run `script` (its `sys.argv[1:]` are the arguments) in a fresh process that dies at this point; 0 is never.

    Returns whether it died. A script that fails in another way fails the test.
    """
    code = f"from helpers import crash; crash.install({point})\n{script}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, DEATH), done.stderr
    return done.returncode == DEATH


def every_death(script: str, prepare: Callable[[int], Path]) -> Iterator[Path]:
    """Give the folder that each death leaves, one point after the other, until the script lives to its end.

    Args:
        prepare: makes a fresh folder for a point; the script gets it as its argument.
    """
    for point in itertools.count(1):
        folder = prepare(point)
        if not die_at(point, script, folder):
            return
        yield folder


def install(point: int) -> None:
    """Make this process die at a point. Called before the stage is imported, which may import the names themselves."""
    from facemask_train.core import files

    global _death  # noqa: PLW0603 - one death for all that is wrapped
    _death = point
    for place, name in ((os, "replace"), (os, "rename"), (shutil, "rmtree"), (files, "write_json")):
        also(place, name)


def also(place: Any, name: str) -> None:
    """Make the moments before and after one more function points: for a script, of what its stage writes with."""
    setattr(place, name, _deadly(getattr(place, name), _death))


def _deadly(function: Callable[..., Any], point: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _pass(point)
        result = function(*args, **kwargs)
        _pass(point)
        return result

    return wrapped


def _pass(point: int) -> None:
    global _points  # noqa: PLW0603 - one count for all that is wrapped
    _points += 1
    if _points == point:
        os._exit(DEATH)
