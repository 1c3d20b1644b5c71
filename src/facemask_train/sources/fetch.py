"""`fmask fetch`: brings sources into `data/raw/<name>/`. Knows where they come from, not what is in them.

    data/raw/<name>/files/         the files as published
    data/raw/<name>/source.json    what they are; written last, it means "complete"

`source.json` holds: `name`; `origin` (Kaggle's handle, or the name of the file or folder that was given); `handle` and
`version` (Kaggle's; the version is null where a file was given by hand); `licence`; `digest` (of the content, see
`archive.py`); `archive` (its `name`, `bytes`, `sha256`, and `modified`, its own time in UTC; null for a folder);
`files` and `bytes` (unpacked); `skipped` (the name and cause of each file that was left out); `layout` (the version of
this module's output). It is the same in every rerun, so it does not say when it was fetched: its file's time does.

Each source has a lock; a second command on it is refused. A download waits in `data/raw/.downloads/<name>/`.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from facemask_train.core import files as stage_files
from facemask_train.core.config import Source, pick_source, read_sources
from facemask_train.core.errors import DataError, DigestError, MissingError, StorageError, UsageError
from facemask_train.core.types import Progress, no_progress
from facemask_train.sources import archive
from facemask_train.sources.sample import archives

LAYOUT = 1
"""Raised by hand when the same input gives another `data/raw/<name>/`: then finished ones are made again."""

MARKER = "source.json"
_PACKED = (".zip", ".tar.gz", ".tgz")
_SHOWN = 5  # names that a message has of a folder
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """One source, after `fetch`. `digest` and `pin` are empty where it is absent.

    `pin` is the line to add under the source's name in configs/sources.yaml; empty where a digest is pinned already.
    """

    name: str
    path: Path
    digest: str
    state: Literal["fetched", "up-to-date", "absent"]
    pin: str


@dataclass(frozen=True)
class _Input:
    """An archive or a folder that lies on the disk, and what is known of it."""

    path: Path
    origin: str
    licence: str
    version: int | None = None
    modified: str | None = None


@dataclass(frozen=True)
class _Job:
    """A source to bring, and where to."""

    root: Path
    name: str
    source: Source
    progress: Progress

    @property
    def target(self) -> Path:
        return source_folder(self.root, self.name)

    @property
    def downloads(self) -> Path:
        return self.target.parent / ".downloads" / self.name

    @property
    def sample_origin(self) -> str:
        return f"sample {self.source.sample}, version {archives.VERSION}"

    def report(self, what: str, done: int, total: int) -> None:
        self.progress(f"{self.name}: {what}", done, total)


def source_folder(root: Path, name: str) -> Path:
    """Return the folder that holds a fetched source."""
    return root / "data" / "raw" / name


def read_source(root: Path, name: str) -> dict[str, Any]:
    """Return what `source.json` says of a fetched source.

    Raises:
        MissingError: the source is not fetched.
        DataError: the file is damaged.
    """
    path = source_folder(root, name) / MARKER
    found = stage_files.read_json(path)
    if found is None:
        raise MissingError(f"{path}: no such file: '{name}' is not fetched", next_step=f"fmask fetch {name}")
    if not isinstance(found.get("digest"), str):
        raise DataError(f"{path}: expected a digest, found none", next_step=_afresh(path.parent))
    return found


def altered(file: Path, found: str) -> DataError:
    """Make the error for a file of a fetched source that is not as it was fetched."""
    folder = next((parent for parent in file.parents if (parent / MARKER).is_file()), file.parent)
    return DataError(f"{file}: expected the file that was fetched, found {found}", next_step=_afresh(folder))


def _afresh(folder: Path) -> str:
    return f"remove {folder}, then: fmask fetch {folder.name}"


def fetch(
    root: Path, names: Sequence[str], *, origin: Path | None = None, progress: Progress = no_progress
) -> list[Fetched]:
    """Bring sources into `data/raw/`; those that are there and up to date cost no request and no copy.

    Args:
        names: sources of configs/sources.yaml; none stands for all of Kaggle's that are not optional.
        origin: an archive for one source, or a folder of archives under the names that Kaggle gives them. A source
            that is not in the folder is told of; where it was named, or none is there, it is an error.

    Raises:
        UsageError: an unknown name, no name where Kaggle has none, or an archive without a name that says whose it is.
        MissingError: `origin`, or the named source's archive in it, or any archive in it, is not there.
        DataError: an archive is broken, unsafe, or not the pinned one (`DigestError`).
        CredentialsError, NetworkError, StorageError: see `kaggle.download`.
    """
    sources = read_sources(root)
    chosen = {name: pick_source(sources, name) for name in names} or _default(sources)
    if not chosen:
        raise UsageError(
            "expected a source's name, found none; without one Kaggle's are fetched, and configs/sources.yaml has none",
            next_step=f"fmask fetch {' '.join(sources)}",
        )
    if origin is None:
        given = {}
    elif origin.is_dir():
        given = _found_in(origin, chosen, named=bool(names))
    elif origin.is_file():
        chosen = chosen if len(names) == 1 else _owner(origin, sources, names)
        given = dict.fromkeys(chosen, origin)
    else:
        raise MissingError(f"{origin}: no such file or folder", next_step="check the path after --from")
    found = [
        _fetch_one(_Job(root, name, source, progress), given.get(name), offline=origin is not None)
        for name, source in chosen.items()
    ]
    absent = {one.name: chosen[one.name].archive_name for one in found if one.state == "absent"}
    if origin is not None and absent and not given:
        raise _none_in(origin, absent.values())
    for name, archive_name in absent.items():
        _log.warning("%s: absent: %s is not in the folder", name, archive_name)
    return found


# Decide


def _default(sources: dict[str, Source]) -> dict[str, Source]:
    return {name: source for name, source in sources.items() if source.handle and not source.optional}


def _owner(origin: Path, sources: dict[str, Source], names: Sequence[str]) -> dict[str, Source]:
    """Return the source whose archive has the name that Kaggle gives it."""
    if names:
        raise UsageError(
            f"{origin}: one archive for {len(names)} sources ({', '.join(names)})",
            next_step=f"name one source, or give a folder of archives: --from {origin.parent}",
        )
    known = {source.archive_name: name for name, source in sources.items() if source.handle}
    for file_name, name in known.items():
        if _copy_number(origin.name, file_name) is not None:
            return {name: sources[name]}
    raise UsageError(
        f"{origin}: expected one of Kaggle's file names ({', '.join(known)}), found '{origin.name}'",
        next_step=f"say whose it is: fmask fetch NAME --from {origin}",
    )


def _found_in(folder: Path, chosen: dict[str, Source], *, named: bool) -> dict[str, Path]:
    """Return the archive of each of Kaggle's sources that the folder has."""
    given = {}
    for name, source in chosen.items():
        found = _archive_in(folder, source.archive_name) if source.handle else None
        if found is not None:
            given[name] = found
        elif source.handle and named:
            raise MissingError(
                f"{folder / source.archive_name}: no such file: the archive of '{name}' is not in this folder",
                next_step=f"put it there; where it has another name: fmask fetch {name} --from THE_FILE;"
                " an unpacked one is a source of its own: path: FOLDER in configs/sources.yaml",
            )
    return given


def _none_in(folder: Path, absent: Iterable[str]) -> MissingError:
    there = [path.name for path in sorted(folder.iterdir())]
    packed = next((name for name in there if name.lower().endswith(_PACKED)), "THE_FILE")
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    return MissingError(
        f"{folder}: expected an archive under Kaggle's name ({', '.join(absent)}),"
        f" found {', '.join(there[:_SHOWN]) or 'nothing'}{more}",
        next_step=f"name another folder; or, of an archive with another name, the source: "
        f"fmask fetch NAME --from {folder / packed}",
    )


def _archive_in(folder: Path, file_name: str) -> Path | None:
    """Return the archive of this name, or else the newest of the copies that a browser made of it."""
    numbered = [(_copy_number(path.name, file_name), path) for path in sorted(folder.iterdir()) if path.is_file()]
    found = [(number, path) for number, path in numbered if number is not None]
    if not found:
        return None
    _, chosen = next((pair for pair in found if pair[0] == 0), max(found))
    if len(found) > 1:
        _log.warning("%s: took %s of %s", folder, chosen.name, ", ".join(path.name for _, path in found))
    return chosen


def _copy_number(found: str, file_name: str) -> int | None:
    """Return 0 for Kaggle's file name, n for a browser's n-th copy (`name (1).zip`, `name 2.zip`), None for others."""
    stem, suffix = map(re.escape, (file_name.removesuffix(".zip"), ".zip"))
    match = re.fullmatch(rf"{stem}(?: ?\((\d+)\)| (\d+))?{suffix}", found, re.IGNORECASE)
    return int(match[1] or match[2] or 0) if match else None


def _is_current(job: _Job, present: dict[str, Any], local: _Input | None) -> bool:
    """Say if what is in place is what would be brought. Without a local input it asks nobody."""
    source = job.source
    if present.get("layout") != LAYOUT or not (job.target / "files").is_dir():
        return False
    if present.get("handle") != source.handle or source.digest not in (None, present.get("digest")):
        return False
    if local is not None:
        return present.get("licence") == local.licence and _same_input(present, local.path)
    if source.sample is not None:
        return present.get("origin") == job.sample_origin
    return source.version is None or present.get("version") in (None, source.version)


def _same_input(present: dict[str, Any], path: Path) -> bool:
    known = present.get("archive")
    if path.is_dir():
        return known is None and bool(present.get("digest") == archive.digest_folder(path))
    return known is not None and bool(known["sha256"] == stage_files.digest_file(path))


# Act


def _fetch_one(job: _Job, given: Path | None, *, offline: bool) -> Fetched:
    with stage_files.locked(job.target):
        stage_files.recover(job.target)
        local = _local_input(job, given)
        present = stage_files.read_json(job.target / MARKER)
        state: Literal["fetched", "up-to-date"] = "up-to-date"
        if present is None or not _is_current(job, present, local):
            if offline and local is None and job.source.handle:
                return Fetched(job.name, job.target, "", "absent", "")
            present, state = _bring(job, local), "fetched"
        shutil.rmtree(job.downloads, ignore_errors=True)
    pin = "" if job.source.digest or job.source.sample else f"digest: {present['digest']}"
    return Fetched(job.name, job.target, present["digest"], state, pin)


def _local_input(job: _Job, given: Path | None) -> _Input | None:
    """Return the archive or folder on this machine that a source comes from, if it does.

    Raises:
        MissingError: it is not there.
        StorageError: it cannot be read.
        UsageError: it is a folder that holds our copy of it, or lies in it.
    """
    if given is None and job.source.path is None:
        return None
    path = given or job.root / Path(job.source.path or "").expanduser()
    mend = "check the path after --from" if given else f"mend the path of '{job.name}' in configs/sources.yaml"
    try:
        modified = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
        if path.is_file():
            path.open("rb").close()
    except FileNotFoundError as error:
        raise MissingError(f"{path}: no such file or folder", next_step=mend) from error
    except PermissionError as error:
        raise StorageError(f"{path}: cannot be read", next_step="make it readable, then run this again") from error
    here, there = path.resolve(), job.target.resolve()
    if path.is_dir() and (here in (there, *there.parents) or there in here.parents):
        raise UsageError(f"{path}: holds {job.target}, or lies in it", next_step=mend)
    return _Input(path, here.name, job.source.licence, modified=modified)


def _bring(job: _Job, local: _Input | None) -> dict[str, Any]:
    """Put a source in place from the user's own files, from what fmask draws, or from Kaggle."""
    if local is not None:
        return _install(job, local)
    if job.source.sample is not None:
        return _install(job, _draw(job))
    downloaded = _download(job)
    try:
        return _install(job, downloaded)
    except DigestError:
        raise  # it is whole: once it is pinned, it need not be downloaded again
    except DataError as error:
        shutil.rmtree(job.downloads, ignore_errors=True)
        raise DataError(
            f"{job.source.handle}: the download cannot be used: {error}",
            next_step=f"run `fmask fetch {job.name}` again: it downloads afresh",
        ) from error


def _download(job: _Job) -> _Input:
    from facemask_train.sources import kaggle

    handle = job.source.handle or ""
    found = kaggle.download(handle, job.downloads, version=job.source.version, progress=job.report)
    return _Input(found.path, handle, found.licence or job.source.licence, found.version, found.modified)


def _draw(job: _Job) -> _Input:
    """Draw a sample's archive. It is of this moment, so its time is not recorded."""

    assert job.source.sample is not None
    path = job.downloads / f"{job.source.sample}.zip"
    with stage_files.storage_errors(path):
        job.downloads.mkdir(parents=True, exist_ok=True)
        archives.write_archive(job.source.sample, path, progress=job.report)
    return _Input(path, job.sample_origin, job.source.licence)


def _install(job: _Job, found: _Input) -> dict[str, Any]:
    """Unpack, verify, describe, and move into place."""
    whole_folder = found.path.is_dir()
    packed = None if whole_folder else _describe_archive(found)
    with stage_files.replacing(job.target) as work:
        bring = archive.copy if whole_folder else archive.unpack
        contents = bring(found.path, work / "files", progress=job.report)
        _check_pin(job, found, contents)
        description = _describe(job, found, contents, packed)
        stage_files.write_json(work / MARKER, description)
    for cause, count in sorted(Counter(cause for _, cause in contents.skipped).items()):
        _log.warning("%s: left out %d files (%s); %s names them", job.name, count, cause, job.target / MARKER)
    return description


def _describe(job: _Job, found: _Input, contents: archive.Contents, packed: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": job.name,
        "origin": found.origin,
        "handle": job.source.handle,
        "version": found.version,
        "licence": found.licence,
        "digest": contents.digest,
        "archive": packed,
        "files": contents.files,
        "bytes": contents.bytes,
        "skipped": [{"name": name, "cause": cause} for name, cause in contents.skipped],
        "layout": LAYOUT,
    }


def _describe_archive(found: _Input) -> dict[str, Any]:
    return {
        "name": found.path.name,
        "bytes": found.path.stat().st_size,
        "sha256": stage_files.digest_file(found.path),
        "modified": found.modified,
    }


def _check_pin(job: _Job, found: _Input, contents: archive.Contents) -> None:
    if job.source.digest not in (None, contents.digest):
        raise DigestError(
            f"{found.origin}: expected the content {job.source.digest}, found {contents.digest}",
            next_step=f"if this content is meant, configs/sources.yaml, under {job.name}: digest: {contents.digest}",
        )
