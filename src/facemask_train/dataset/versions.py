"""Where finished ensembles are, and how one is found by name, path, or because it is the latest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from facemask_train.core.config import config_files, read_yaml
from facemask_train.core.errors import DataError, MissingError, UsageError, nearest
from facemask_train.core.files import check_name, inside, latest, write_bytes
from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.dataset.card import EnsembleCard

MARKER, DATA_YAML = EnsembleCard.FILE, "data.yaml"


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


def list_ensembles(root: Path) -> list[tuple[str, str]]:
    """Return the name of each ensemble and how far it is: `404 images`, or `unfinished`."""
    found = []
    for folder in sorted((root / "data" / "ensembles").glob("[!.]*/")):
        try:
            found.append((folder.name, f"{EnsembleCard.load(folder).outputs:,} images"))
        except MissingError:
            found.append((folder.name, "unfinished"))
        except DataError as error:
            found.append((folder.name, str(error)))
    return found


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


def read_ensemble(folder: Path) -> EnsembleCard:
    """Return the card of a finished ensemble.

    An ensemble may come from a stranger. Its name becomes a folder name in runs, and tools read its `data.yaml`, so
    both are checked here before anything uses them.

    Raises:
        MissingError: there is none, or it was not finished.
        DataError: its card is from another version of fmask or damaged, or its name or its `data.yaml` is not one
            that `fmask build-dataset` writes.
    """
    card = EnsembleCard.load(folder)
    check_name(card.name, f"{folder / MARKER}: name")
    check_data_yaml(folder)
    return card


def check_data_yaml(folder: Path) -> None:
    """Make sure that an ensemble's `data.yaml` says where its images are and what its classes are called, and no more.

    The `ultralytics` package runs the code under `download`. fmask never passes it this file (`write_trusted_yaml`),
    but a file with such a key was made to harm, or for another tool, and is refused.

    Raises:
        MissingError: there is no such file.
        DataError: it has another key, or images anywhere but in `images/SPLIT`.
    """
    path = folder / DATA_YAML
    try:
        data = read_yaml(path)
    except UsageError as error:
        raise DataError(str(error), next_step="build the ensemble again: fmask build-dataset") from error
    unknown = sorted(map(str, set(data) - {*SPLITS, "names", "nc"}))
    if unknown:
        raise DataError(
            f"{path}: expected the keys {', '.join((*SPLITS, 'names'))}, found also: {', '.join(unknown)[:200]}",
            next_step="remove these keys if you trust whoever made the file, or make the folder a source and build "
            "an ensemble from it: docs/own-data.md",
        )
    for split in SPLITS:
        if data.get(split, f"images/{split}") != f"images/{split}":
            raise DataError(
                f"{path}: expected images/{split} under '{split}', found {str(data[split])[:80]!r}",
                next_step="make the folder a source and build an ensemble from it: docs/own-data.md",
            )
        inside(folder, f"images/{split}", str(path))


def write_trusted_yaml(ensemble: Path, target: Path, splits: Iterable[str]) -> Path:
    """Write the yaml that the `ultralytics` package is shown for an ensemble: of what was checked, and nothing else.

    Args:
        splits: those that the package will read.

    Raises:
        DataError: a split's folder is not there.
    """
    folder = ensemble.resolve()
    for split in splits:
        if not (folder / "images" / split).is_dir():
            raise DataError(
                f"{folder}: expected images in images/{split}, found no such folder",
                next_step="build the ensemble again: fmask build-dataset",
            )
    data = {split: str(folder / "images" / split) for split in splits}
    text = yaml.safe_dump(data | {"names": dict(enumerate(CLASSES))}, sort_keys=False, allow_unicode=True)
    write_bytes(target, text.encode())
    return target
