"""The image index of a source: facts, hashes and thumbnails of its image files, cached in `data/cache/<source>/`.

    images.parquet    facts about each file, and its hash
    thumbnails.bin    SIDE x SIDE bytes per file, in the same order; memory-mapped
    index.json        the digest of the source's content; written last, so it marks a complete index

A source with an unchanged digest is not read again; in a changed source, files with unchanged bytes are not examined
again. If the folder is removed or damaged, the index is built again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train import formats
from facemask_train.core.errors import DataError
from facemask_train.core.files import digest_file, read_json, replacing, stage, write_json
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.grouping.hashing import BITS, SIDE, stack_hashes
from facemask_train.dataset.loading.images import ExaminedImage, ImageFacts, examine_bytes
from facemask_train.formats.media_types import kind_of
from facemask_train.sources.source_record import read_source, source_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facemask_train.dataset.grouping.hashing import Hashes

INDEX_VERSION = 5
"""Raised by hand when examining a file gives a different result than before."""

MARKER = "index.json"
_THUMBNAIL = SIDE * SIDE  # bytes
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageIndex:
    """The images of a source in the order of their paths: facts, hashes (n, 4), thumbnails (n, SIDE, SIDE).

    The hash of an image without structure is zero; so are the hash and the thumbnail of an image that cannot be used.
    """

    facts: tuple[ImageFacts, ...]
    hashes: Hashes
    thumbnails: NDArray[np.uint8]

    @cached_property
    def by_path(self) -> dict[str, ImageFacts]:
        return {facts.path: facts for facts in self.facts}


def index_images(root: Path, name: str, *, pool: WorkerPool, progress: Progress = no_progress) -> ImageIndex:
    """Return the index of a fetched source, from the cache where its content is the same.

    Raises:
        MissingError: the source is not fetched.
        StorageError: the cache cannot be written, or another command is writing it.
    """
    target = root / "data" / "cache" / name
    wanted = {"code": INDEX_VERSION, "digest": read_source(root, name).digest}
    with stage(target):
        digest, known = _read_finished(target)
        if known is None or digest != wanted["digest"]:
            with replacing(target) as folder:
                count = _examine(source_folder(root, name) / "files", folder, known, pool, name, progress)
                write_json(folder / MARKER, {**wanted, "images": count})
            known = _read(target)
        return known


def _read_finished(folder: Path) -> tuple[str, ImageIndex | None]:
    """Return a finished index, with the digest of what it is of; none where this code did not write it whole."""
    try:
        about = read_json(folder / MARKER) or {}
        return str(about.get("digest")), _read(folder) if about.get("code") == INDEX_VERSION else None
    except DataError as error:
        _log.warning("%s; its images are examined again", error)
        return "", None


def _examine(files: Path, folder: Path, old: ImageIndex | None, pool: WorkerPool, name: str, progress: Progress) -> int:
    """Write the tables of an index; return the number of images."""
    paths = formats.list_images(files)
    known = {facts.path: (index, facts) for index, facts in enumerate(old.facts)} if old else {}
    whole = files.resolve()  # worker processes may have been started in another current folder
    jobs = ((whole, path, known[path][1].sha256 if path in known else "") for path in paths)
    rows = []
    with (folder / "thumbnails.bin").open("wb") as thumbnails:
        for path, found in zip(
            paths, pool.map(_examine_batch, jobs, len(paths), what=f"check {name}", progress=progress), strict=True
        ):
            facts, image_hash, thumbnail = _reused(old, *known[path]) if found is None and old else _examined(found)
            rows.append({**asdict(facts), "hash": image_hash})
            thumbnails.write(thumbnail)
    _write_table(folder / "images.parquet", rows)
    return len(rows)


def _reused(old: ImageIndex, index: int, facts: ImageFacts) -> tuple[ImageFacts, bytes, bytes]:
    return facts, old.hashes[index].tobytes(), old.thumbnails[index].tobytes()


def _examined(found: ExaminedImage | None) -> tuple[ImageFacts, bytes, bytes]:
    assert found is not None
    if found.image_hash is None:
        return found.facts, bytes(BITS // 8), bytes(_THUMBNAIL)
    return found.facts, found.image_hash.hash, found.image_hash.thumbnail


def _examine_batch(jobs: Sequence[tuple[Path, str, str]]) -> list[ExaminedImage | None]:
    return list(_examine_files(jobs))


def _examine_files(jobs: Sequence[tuple[Path, str, str]]) -> Iterator[ExaminedImage | None]:
    """Examine files; yield None for those with a known sha256."""
    for files, path, known in jobs:
        if kind_of(files / path) == "video":
            yield _video(files / path, path)
            continue
        content = (files / path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        yield None if digest == known else examine_bytes(content, path, digest)


def _video(file: Path, path: str) -> ExaminedImage:
    """Return the facts about a video, which is not read into memory."""
    return ExaminedImage(
        ImageFacts(path, digest_file(file), cause="video", detail="no image; extract its frames"), None
    )


def _write_table(path: Path, rows: Sequence[dict[str, object]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "str": pa.string(),
        "int": pa.int64(),
        "tuple[int, int]": pa.list_(pa.int64()),
        "tuple[str, ...]": pa.list_(pa.string()),
    }
    schema = pa.schema([(field.name, types[str(field.type)]) for field in fields(ImageFacts)] + [("hash", pa.binary())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def _read(folder: Path) -> ImageIndex:
    """Read an index.

    Raises:
        DataError: a part of it is missing or damaged.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(folder / "images.parquet").to_pylist()
        hashes = stack_hashes([row.pop("hash") for row in rows])
        facts = tuple(ImageFacts(**row | {key: tuple(row[key]) for key in ("stored", "repairs")}) for row in rows)
        size, wanted = (folder / "thumbnails.bin").stat().st_size, len(facts) * _THUMBNAIL
        if size != wanted:
            raise ValueError(f"thumbnails.bin: expected {wanted} bytes, found {size}")
        shape = (len(facts), SIDE, SIDE)
        mapped = (
            np.memmap(folder / "thumbnails.bin", np.uint8, "r", shape=shape) if facts else np.zeros(shape, np.uint8)
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{folder}: expected an index, found a damaged one ({error})", next_step=f"remove {folder}"
        ) from error
    return ImageIndex(facts, hashes, mapped)
