"""Where runs are, what a run folder says of itself (`run.json`), and how one is found. Knows no torch."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facemask_train import __version__
from facemask_train.core.errors import MissingError, UsageError, nearest
from facemask_train.core.files import digest_data, digest_file, read_json, write_json

MARKER = "run.json"
_PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics-opencv-headless",
    "ultralytics",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "albumentations",
    "wandb",
)


def run_folder(root: Path, name: str) -> Path:
    return root / "runs" / name


def read_run(folder: Path) -> dict[str, Any]:
    """Return what a run says of itself.

    Raises:
        MissingError: the folder is not a run; those that are there are named.
    """
    about = read_json(folder / MARKER)
    if about is None:
        raise _no_run(folder)
    return about


def _no_run(folder: Path) -> MissingError:
    home = next(parent for parent in folder.parents if parent.is_dir())  # also where a path was given for a name
    there = sorted(path.parent.name for path in home.glob(f"[!.]*/{MARKER}"))
    return MissingError(
        f"{folder}: no such run{nearest(folder.name, there)}; here are: {', '.join(there) or '-'}",
        next_step="name one of them; a checkpoint goes after --weights" if there else "fmask train",
    )


def open_run(folder: Path, about: Mapping[str, Any]) -> None:
    """Make a run's folder with what it says of itself: both, or neither."""
    folder.mkdir(parents=True)
    try:
        write_run(folder, about)
    except OSError:
        folder.rmdir()  # its name stays free
        raise


def write_run(folder: Path, about: Mapping[str, Any]) -> None:
    write_json(folder / MARKER, dict(about))


def all_runs(root: Path) -> list[Path]:
    """Return the folders of all runs, by name."""
    return sorted(marker.parent for marker in (root / "runs").glob(f"[!.]*/{MARKER}"))


def last_run(root: Path, state: str) -> Path:
    """Return the run of training in this state (`finished` or `started`) that got there last.

    Raises:
        MissingError: there is none.
    """
    abouts = [(read_run(folder), folder) for folder in all_runs(root)]
    found = [
        (about[state], folder) for about, folder in abouts if (about["state"], about["kind"]) == (state, "training")
    ]
    if not found:
        raise MissingError(
            f"{root / 'runs'}: no {state} run is here", next_step="fmask train (or fmask pipeline --sample)"
        )
    return max(found)[1]


def named_run(root: Path, name: str) -> Path:
    """Return the folder of a new run of this name.

    Raises:
        UsageError: no run can have this name, or one has it already.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise UsageError(f"--name {name!r}: expected letters, digits, '.', '-' and '_'", next_step="choose another")
    folder = run_folder(root, name)
    if folder.exists():
        raise UsageError(
            f"{folder}: a run of this name is there already",
            next_step=f"choose another --name, or go on with it: fmask train --resume --name {name}",
        )
    return folder


def new_run(root: Path, name: str, default: str) -> Path:
    """Return the folder of a new run: `name`, or the first of `default`, `default-2`, ... that is free."""
    if name:
        return named_run(root, name)
    number = 1
    while (folder := run_folder(root, default if number == 1 else f"{default}-{number}")).exists():
        number += 1
    return folder


def now() -> str:
    """Return the time in UTC as ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat()


def package_versions() -> dict[str, str]:
    """Return the versions of what a result can depend on; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_version() -> dict[str, str]:
    """Return fmask's version, and a digest of its sources that tells a changed checkout apart."""
    package = Path(__file__).parents[1]
    digests = [[str(path.relative_to(package)), digest_file(path)] for path in sorted(package.rglob("*.py"))]
    return {"version": __version__, "sources": digest_data(digests)[:16]}


def duration(seconds: float) -> str:
    """Return a length of time in words: `3 h 20 min`, `4 min`, `50 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
