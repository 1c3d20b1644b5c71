"""Where finished ensembles are, and how one is found by name, path, or because it is the latest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facemask_train.core.config import config_files
from facemask_train.core.errors import MissingError, nearest
from facemask_train.core.files import latest, read_json

MARKER = "ensemble.json"


def ensemble_folder(root: Path, name: str) -> Path:
    return root / "data" / "ensembles" / name


def find_ensemble(root: Path, data: str = "") -> Path:
    """Return a finished ensemble's folder: by name (`v5`), by path (its folder or data.yaml), or the latest.

    Raises:
        MissingError: there is none; those that are there are named.
    """
    if not data:
        folder = latest(root / "data" / "ensembles", MARKER)
        if folder is None:
            raise MissingError(
                f"{root / 'data' / 'ensembles'}: no ensemble has been built here",
                next_step="fmask build-dataset --version 5 (or, without any data, fmask pipeline --sample)",
            )
        return folder
    path = Path(data).expanduser()
    given = [path.parent if path.name == "data.yaml" else path, ensemble_folder(root, data)]
    for folder in [*given, ensemble_folder(root, f"v{data}")]:
        if (folder / MARKER).is_file():
            return folder.resolve()
    raise _no_ensemble(root, data)


def _no_ensemble(root: Path, data: str) -> MissingError:
    there = sorted(found.parent.name for found in (root / "data" / "ensembles").glob(f"[!.]*/{MARKER}"))
    recipes = [path.stem for path in config_files(root, "ensembles")]
    can_be = data in recipes or f"v{data}" in recipes
    close = "" if can_be else nearest(data, [*there, *recipes])
    build = data if can_be else f"NAME, which is one of: {', '.join(recipes)}"
    return MissingError(
        f"{data}: no finished ensemble of this name or path{close}; here are: {', '.join(there) or '-'}",
        next_step=f"fmask build-dataset --version {build}",
    )


def read_ensemble(folder: Path) -> dict[str, Any]:
    """Return the card (`ensemble.json`) of a finished ensemble.

    Raises:
        MissingError: there is none, or it was not finished.
    """
    card = read_json(folder / MARKER)
    if card is None:
        raise MissingError(
            f"{folder}: expected a finished ensemble, found no {MARKER}", next_step="fmask build-dataset --version 5"
        )
    return card
