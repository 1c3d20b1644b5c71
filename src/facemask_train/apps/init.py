"""A project folder to edit: the settings that ship with fmask, copied where they are read first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.config import config_folders
from facemask_train.core.files import make_folder, storage_errors, write_bytes

FOLDERS = ("configs", "data", "runs")


@dataclass(frozen=True, slots=True)
class ProjectInit:
    """What `init` found and made in a folder, as sorted paths relative to it.

    Attributes:
        written: files that were not there, now equal to those that ship with fmask.
        kept: files that were there and were not touched, whatever they contain.
    """

    folder: str
    written: tuple[str, ...]
    kept: tuple[str, ...]


def init(folder: Path) -> ProjectInit:
    """Make `configs/`, `data/` and `runs/` in a folder, with a copy of each shipped yaml file that it does not have.

    Raises:
        StorageError: the folder, or one of its folders, is a file, cannot be written, or the disk is full.
    """
    shipped = next(base for base in config_folders(folder)[1:] if base.is_dir())
    written, kept = [], []
    with storage_errors(folder):
        for name in FOLDERS:
            make_folder(folder / name)
        for source in sorted(shipped.rglob("*.yaml")):
            target = folder / "configs" / source.relative_to(shipped)
            name = target.relative_to(folder).as_posix()
            if target.exists() or target.is_symlink():
                kept.append(name)
                continue
            make_folder(target.parent)
            write_bytes(target, source.read_bytes())
            written.append(name)
    return ProjectInit(str(folder), tuple(written), tuple(kept))
