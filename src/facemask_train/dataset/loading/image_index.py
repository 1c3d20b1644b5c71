"""What is in a source's image files: examined once, remembered by content in `data/cache/<source>/`.

    data/cache/<source>/images.parquet     what each file is, and its hash
    data/cache/<source>/thumbnails.bin       SIDE x SIDE bytes each, in the same order; read where it lies
    data/cache/<source>/catalogue.json       the digest of the source's content; written last, it means "complete"

A source whose digest is the same is not read again. Of one that changed, the files whose bytes are the same are not
examined again. Removing or damaging the folder costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train import formats
from facemask_train.core.errors import DataError
from facemask_train.core.files import locked, read_json, recover, replacing, write_json
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.grouping.hashing import BITS, SIDE, words
from facemask_train.dataset.loading.images import Examined, Facts, examine_bytes
from facemask_train.sources.source_record import read_source, source_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facemask_train.dataset.grouping.hashing import Bits

CATALOGUE_VERSION = 3
"""Raised by hand when examining a file gives something else than before."""

MARKER = "catalogue.json"
_THUMBNAIL = SIDE * SIDE  # bytes
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalogue:
    """A source's images in the order of their paths: facts, hashes (n, 4), thumbnails (n, SIDE, SIDE).

    An image that cannot be used has an empty hash and thumbnail, one without structure an empty hash.
    """

    facts: tuple[Facts, ...]
    hashes: Bits
    thumbnails: NDArray[np.uint8]

    @cached_property
    def by_path(self) -> dict[str, Facts]:
        return {facts.path: facts for facts in self.facts}


def catalogue(root: Path, name: str, *, pool: WorkerPool, progress: Progress = no_progress) -> Catalogue:
    """Return the catalogue of a fetched source, from the cache where its content is the same.

    Raises:
        MissingError: the source is not fetched.
        StorageError: the cache cannot be written, or another command is writing it.
    """
    target = root / "data" / "cache" / name
    wanted = {"code": CATALOGUE_VERSION, "digest": read_source(root, name).digest}
    with locked(target):
        recover(target)
        digest, known = _remembered_in(target)
        if known is None or digest != wanted["digest"]:
            with replacing(target) as folder:
                count = _examine(source_folder(root, name) / "files", folder, known, pool, name, progress)
                write_json(folder / MARKER, {**wanted, "images": count})
            known = _load(target)
        return known


def _remembered_in(folder: Path) -> tuple[str, Catalogue | None]:
    """Return a finished catalogue, with the digest of what it is of; none where this code did not write it whole."""
    try:
        about = read_json(folder / MARKER) or {}
        return str(about.get("digest")), _load(folder) if about.get("code") == CATALOGUE_VERSION else None
    except DataError as error:
        _log.warning("%s; its images are examined anew", error)
        return "", None


def _examine(files: Path, folder: Path, old: Catalogue | None, pool: WorkerPool, name: str, progress: Progress) -> int:
    """Write the tables of a catalogue; return the number of images."""
    paths = formats.list_images(files)
    known = {facts.path: (index, facts) for index, facts in enumerate(old.facts)} if old else {}
    jobs = ((files, path, known[path][1].sha256 if path in known else "") for path in paths)
    rows = []
    with (folder / "thumbnails.bin").open("wb") as thumbnails:
        for path, found in zip(
            paths, pool.map(_look_all, jobs, len(paths), what=f"check {name}", progress=progress), strict=True
        ):
            facts, mark, thumbnail = _remembered(old, *known[path]) if found is None and old else _new(found)
            rows.append({**asdict(facts), "hash": mark})
            thumbnails.write(thumbnail)
    _write_table(folder / "images.parquet", rows)
    return len(rows)


def _remembered(old: Catalogue, index: int, facts: Facts) -> tuple[Facts, bytes, bytes]:
    return facts, old.hashes[index].tobytes(), old.thumbnails[index].tobytes()


def _new(found: Examined | None) -> tuple[Facts, bytes, bytes]:
    assert found is not None
    if found.fingerprint is None:
        return found.facts, bytes(BITS // 8), bytes(_THUMBNAIL)
    return found.facts, found.fingerprint.hash, found.fingerprint.thumbnail


def _look_all(jobs: Sequence[tuple[Path, str, str]]) -> list[Examined | None]:
    return list(_look(jobs))


def _look(jobs: Sequence[tuple[Path, str, str]]) -> Iterator[Examined | None]:
    """Examine files, but for those whose sha256 is the one that is known already."""
    for files, path, known in jobs:
        content = (files / path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        yield None if digest == known else examine_bytes(content, path, digest)


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "str": pa.string(),
        "int": pa.int64(),
        "tuple[int, int]": pa.list_(pa.int64()),
        "tuple[str, ...]": pa.list_(pa.string()),
    }
    schema = pa.schema([(field.name, types[str(field.type)]) for field in fields(Facts)] + [("hash", pa.binary())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def _load(folder: Path) -> Catalogue:
    """Read a catalogue.

    Raises:
        DataError: a part of it is gone or damaged.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(folder / "images.parquet").to_pylist()
        hashes = words([row.pop("hash") for row in rows])
        facts = tuple(Facts(**row | {key: tuple(row[key]) for key in ("stored", "repairs")}) for row in rows)
        size, wanted = (folder / "thumbnails.bin").stat().st_size, len(facts) * _THUMBNAIL
        if size != wanted:
            raise ValueError(f"thumbnails.bin: expected {wanted} bytes, found {size}")
        shape = (len(facts), SIDE, SIDE)
        mapped = (
            np.memmap(folder / "thumbnails.bin", np.uint8, "r", shape=shape) if facts else np.zeros(shape, np.uint8)
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{folder}: expected a catalogue, found a damaged one ({error})", next_step=f"remove {folder}"
        ) from error
    return Catalogue(facts, hashes, mapped)
