"""`fmask fetch`: puts sources into `data/raw/<name>/`. Does not read labels.

    data/raw/<name>/files/         the files as published
    data/raw/<name>/source.json    the `SourceRecord`; written last, so its presence means "complete"

Each source is locked while it is fetched. Downloads are kept in `data/raw/.downloads/<name>/` until they are unpacked.
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
from typing import Literal

from facemask_train.core import files as stage_files
from facemask_train.core.config import Source, pick_source, read_sources
from facemask_train.core.errors import DataError, DigestError, MissingError, StorageError, UsageError
from facemask_train.core.types import Progress, no_progress
from facemask_train.sources import archive
from facemask_train.sources.sample import archives
from facemask_train.sources.source_record import ArchiveInfo, SkippedFile, SourceRecord, source_folder

_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_SHOWN = 5  # file names of a folder that a message lists
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """The result of `fetch` for one source. `digest` and `pin` are empty if the source is absent.

    `pin` is the line to add to the source in configs/sources.yaml; empty if a digest is pinned already.
    """

    name: str
    path: Path
    digest: str
    state: Literal["fetched", "up-to-date", "absent"]
    pin: str


def list_sources(root: Path) -> list[tuple[str, str]]:
    """Return the name of each source in `configs/sources.yaml`, and `fetched` or `not fetched`."""
    return [
        (name, "fetched" if (source_folder(root, name) / SourceRecord.FILE).is_file() else "not fetched")
        for name in read_sources(root)
    ]


@dataclass(frozen=True)
class _Input:
    """An archive or a folder on disk, and its metadata."""

    path: Path
    origin: str
    license: str
    version: int | None = None
    modified: str | None = None


@dataclass(frozen=True)
class _Job:
    """A source to fetch, and where to."""

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


def fetch(
    root: Path, names: Sequence[str], *, origin: Path | None = None, progress: Progress = no_progress
) -> list[Fetched]:
    """Fetch sources into `data/raw/`. Sources that are up to date cost no request and no copy.

    Args:
        names: sources from configs/sources.yaml. If empty, all Kaggle sources that are not optional.
        origin: an archive for one source, or a folder of archives under their Kaggle names. A missing archive is
            reported; it is an error if its source was named, or if the folder has no archive at all.

    Raises:
        UsageError: a name is unknown or missing, or it is unclear which source an archive belongs to.
        MissingError: `origin`, or an archive in it, does not exist.
        DataError: an archive is broken, unsafe, or not the pinned one (`DigestError`).
        CredentialsError, NetworkError, StorageError: see `kaggle.download`.
    """
    sources = read_sources(root)
    chosen = {name: pick_source(sources, name) for name in names} or _default(sources)
    if not chosen:
        raise UsageError(
            "expected the name of a source, found none; configs/sources.yaml has no Kaggle source to fetch by default",
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
        if origin.exists():
            archive.require_regular(origin)
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
    """Return the source whose Kaggle archive has this name."""
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
        next_step=f"name the source: fmask fetch NAME --from {origin}",
    )


def _found_in(folder: Path, chosen: dict[str, Source], *, named: bool) -> dict[str, Path]:
    """Return the archives of Kaggle sources in a folder, by source."""
    given = {}
    for name, source in chosen.items():
        found = _archive_in(folder, source.archive_name) if source.handle else None
        if found is not None:
            given[name] = found
        elif source.handle and named:
            raise MissingError(
                f"{folder / source.archive_name}: no such file: the archive of '{name}' is not in this folder",
                next_step=f"put it there; if it has another name: fmask fetch {name} --from THE_FILE;"
                " if it is unpacked, set path: FOLDER in configs/sources.yaml",
            )
    return given


def _none_in(folder: Path, absent: Iterable[str]) -> MissingError:
    there = [path.name for path in sorted(folder.iterdir())]
    packed = next((name for name in there if name.lower().endswith(_PACKED)), "THE_FILE")
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    return MissingError(
        f"{folder}: expected an archive under Kaggle's name ({', '.join(absent)}),"
        f" found {', '.join(there[:_SHOWN]) or 'nothing'}{more}",
        next_step=f"use another folder; or, if the archive has another name: fmask fetch NAME --from {folder / packed}",
    )


def _archive_in(folder: Path, file_name: str) -> Path | None:
    """Return the archive of this name, else the latest numbered copy that a browser made of it."""
    numbered = [(_copy_number(path.name, file_name), path) for path in sorted(folder.iterdir()) if path.is_file()]
    found = [(number, path) for number, path in numbered if number is not None]
    if not found:
        return None
    _, chosen = next((pair for pair in found if pair[0] == 0), max(found))
    if len(found) > 1:
        _log.warning("%s: took %s of %s", folder, chosen.name, ", ".join(path.name for _, path in found))
    return chosen


def _copy_number(found: str, file_name: str) -> int | None:
    """Return 0 for the Kaggle file name, n for the n-th copy of a browser (`name (1).zip`, `name 2.zip`), else None."""
    stem, suffix = map(re.escape, (file_name.removesuffix(".zip"), ".zip"))
    match = re.fullmatch(rf"{stem}(?: ?\((\d+)\)| (\d+))?{suffix}", found, re.IGNORECASE)
    return int(match[1] or match[2] or 0) if match else None


def _is_current(job: _Job, present: SourceRecord, local: _Input | None) -> bool:
    """Return whether fetching would give what is there already. Makes no network request."""
    source = job.source
    if not (job.target / "files").is_dir():
        return False
    if present.handle != source.handle or source.digest not in (None, present.digest):
        return False
    if local is not None:
        return present.license == local.license and _same_input(present, local.path)
    if source.sample is not None:
        return present.origin == job.sample_origin
    return source.version is None or present.kaggle_version in (None, source.version)


def _same_input(present: SourceRecord, path: Path) -> bool:
    if path.is_dir():
        return present.archive is None and present.digest == archive.digest_folder(path)
    return present.archive is not None and present.archive.sha256 == stage_files.digest_file(path)


# Act


def _fetch_one(job: _Job, given: Path | None, *, offline: bool) -> Fetched:
    with stage_files.stage(job.target):
        local = _local_input(job, given)
        present = SourceRecord.load_if_current(job.target)
        state: Literal["fetched", "up-to-date"] = "up-to-date"
        if present is None or not _is_current(job, present, local):
            if offline and local is None and job.source.handle:
                return Fetched(job.name, job.target, "", "absent", "")
            present, state = _bring(job, local), "fetched"
        shutil.rmtree(job.downloads, ignore_errors=True)
    pin = "" if job.source.digest or job.source.sample else f"digest: {present.digest}"
    return Fetched(job.name, job.target, present.digest, state, pin)


def _local_input(job: _Job, given: Path | None) -> _Input | None:
    """Return the local archive or folder of a source, or None if it has none.

    Raises:
        MissingError: it does not exist.
        StorageError: it cannot be read.
        DataError: it is a pipe or a device.
        UsageError: the folder contains the target, or lies inside it.
    """
    if given is None and job.source.path is None:
        return None
    path = given or job.root / Path(job.source.path or "").expanduser()
    fix = "check the path after --from" if given else f"fix the path of '{job.name}' in configs/sources.yaml"
    try:
        modified = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
        if not path.is_dir():
            archive.require_regular(path)
            path.open("rb").close()
    except FileNotFoundError as error:
        raise MissingError(f"{path}: no such file or folder", next_step=fix) from error
    except PermissionError as error:
        raise StorageError(f"{path}: cannot be read", next_step="make it readable, then run this again") from error
    here, there = path.resolve(), job.target.resolve()
    if path.is_dir() and (here in (there, *there.parents) or there in here.parents):
        raise UsageError(f"{path}: contains {job.target}, or lies inside it", next_step=fix)
    return _Input(path, here.name, job.source.license, modified=modified)


def _bring(job: _Job, local: _Input | None) -> SourceRecord:
    """Fetch a source from the user's own files, from the sample that fmask draws, or from Kaggle."""
    if local is not None:
        return _install(job, local)
    if job.source.sample is not None:
        return _install(job, _draw(job))
    downloaded = _download(job)
    try:
        return _install(job, downloaded)
    except DigestError:
        raise  # the download is complete: with a new pin it can be used as it is
    except DataError as error:
        shutil.rmtree(job.downloads, ignore_errors=True)
        raise DataError(
            f"{job.source.handle}: the download cannot be used: {error}",
            next_step=f"run `fmask fetch {job.name}` again: it starts a new download",
        ) from error


def _download(job: _Job) -> _Input:
    from facemask_train.sources import kaggle

    handle = job.source.handle or ""
    found = kaggle.download(handle, job.downloads, version=job.source.version, progress=job.report)
    return _Input(found.path, handle, found.license or job.source.license, found.version, found.modified)


def _draw(job: _Job) -> _Input:
    """Draw the archive of a sample. Its modification time is not recorded, since it is new each time."""
    assert job.source.sample is not None
    path = job.downloads / f"{job.source.sample}.zip"
    with stage_files.storage_errors(path):
        job.downloads.mkdir(parents=True, exist_ok=True)
        archives.write_archive(job.source.sample, path, progress=job.report)
    return _Input(path, job.sample_origin, job.source.license)


def _install(job: _Job, found: _Input) -> SourceRecord:
    """Unpack, verify, record, and move into place."""
    whole_folder = found.path.is_dir()
    packed = None if whole_folder else _describe_archive(found)
    with stage_files.replacing(job.target) as work:
        bring = archive.copy if whole_folder else archive.unpack
        contents = bring(found.path, work / "files", progress=job.report)
        _check_pin(job, found, contents)
        record = _describe(job, found, contents, packed)
        record.save(work)
    for cause, count in sorted(Counter(cause for _, cause in contents.skipped).items()):
        _log.warning("%s: skipped %d files (%s); see %s", job.name, count, cause, job.target / SourceRecord.FILE)
    return record


def _describe(job: _Job, found: _Input, contents: archive.Contents, packed: ArchiveInfo | None) -> SourceRecord:
    return SourceRecord(
        name=job.name,
        origin=found.origin,
        handle=job.source.handle,
        kaggle_version=found.version,
        license=found.license,
        digest=contents.digest,
        archive=packed,
        files=contents.files,
        bytes=contents.bytes,
        skipped=tuple(SkippedFile(name, cause) for name, cause in contents.skipped),
    )


def _describe_archive(found: _Input) -> ArchiveInfo:
    size, sha256 = found.path.stat().st_size, stage_files.digest_file(found.path)
    return ArchiveInfo(found.path.name, size, sha256, found.modified)


def _check_pin(job: _Job, found: _Input, contents: archive.Contents) -> None:
    if job.source.digest not in (None, contents.digest):
        raise DigestError(
            f"{found.origin}: expected the content {job.source.digest}, found {contents.digest}",
            next_step="if you want this content, set in configs/sources.yaml,"
            f" under {job.name}: digest: {contents.digest}",
        )
