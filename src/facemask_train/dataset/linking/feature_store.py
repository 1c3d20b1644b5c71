"""The local features of a source's images, cached in `data/cache/<source>.features/` by the digest of each file.

    contents.parquet     digest, size and number of points of each content
    points.bin, descriptors.bin, orb_points.bin, orb_bits.bin, thumbnails.bin    one content after the other
    index.json           the digest of the source's content; written last, so it marks a complete store

Contents that an earlier store has are not described again. If the folder is removed or damaged, it is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from facemask_train.core.errors import DataError
from facemask_train.core.files import read_json, replacing, stage, write_json
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.grouping.hashing import SIDE
from facemask_train.dataset.linking.independent_check import ORB_BYTES, ORB_VERSION, OrbFeatures, detect_orb
from facemask_train.dataset.linking.local_features import FEATURES_VERSION, LENGTH, LocalFeatures, detect
from facemask_train.dataset.loading.images import ImageFacts, read_gray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VERSION = [1, FEATURES_VERSION, ORB_VERSION]
_MARKER = "index.json"
_COLUMNS = (
    ("points", "<f4", 2),
    ("descriptors", "u1", LENGTH),
    ("orb_points", "<f4", 2),
    ("orb_bits", "u1", ORB_BYTES),
)
_log = logging.getLogger(__name__)


class Described(NamedTuple):
    """What is kept of the content of one image file."""

    features: LocalFeatures
    orb: OrbFeatures
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)  # without slots, for cached properties; workers open the files themselves
class FeatureStore:
    """The features of all contents of a source, read from its folder when they are asked for."""

    folder: Path

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each content by its digest."""
        return {digest: place for place, digest in enumerate(self._table["sha256"])}

    def described(self, place: int) -> Described:
        """Return the features of one content."""
        import numpy as np

        points, descriptors, orb_points, orb_bits = (
            np.asarray(self._data[name][self._limits[kind][place] : self._limits[kind][place + 1]])
            for name, kind in (("points", 0), ("descriptors", 0), ("orb_points", 1), ("orb_bits", 1))
        )
        size = (self._table["width"][place], self._table["height"][place])
        return Described(
            LocalFeatures(points, descriptors, size),
            OrbFeatures(orb_points, orb_bits, size),
            np.asarray(self._data["thumbnails"][place]).reshape(SIDE, SIDE),
        )

    def descriptors(self, place: int) -> NDArray[np.uint8]:
        """Return the descriptors of one content, (n, LENGTH)."""
        found: NDArray[np.uint8] = self._data["descriptors"][self._limits[0][place] : self._limits[0][place + 1]]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def _table(self) -> dict[str, list[Any]]:
        import pyarrow.parquet as pq

        found: dict[str, list[Any]] = pq.read_table(self.folder / "contents.parquet").to_pydict()
        return found

    @cached_property
    def _limits(self) -> tuple[Any, Any]:
        import numpy as np

        counts = (np.asarray(self._table[name], np.int64) for name in ("points", "orb_points"))
        one, other = (np.concatenate([[0], np.cumsum(count)]) for count in counts)
        return one, other

    @cached_property
    def _data(self) -> dict[str, Any]:
        import numpy as np

        found = {}
        for name, kind, width in (*_COLUMNS, ("thumbnails", "u1", SIDE * SIDE)):
            path = self.folder / f"{name}.bin"
            empty = not path.stat().st_size
            found[name] = np.zeros((0, width), kind) if empty else np.memmap(path, kind, "r").reshape(-1, width)
        return found

    def check(self) -> None:
        """Read the tables, and compare the sizes of the files with them.

        Raises:
            DataError: a file is missing or damaged.
        """
        import pyarrow as pa

        try:
            counts = (self._limits[0][-1], self._limits[0][-1], self._limits[1][-1], self._limits[1][-1])
            wanted = [*counts, len(self.places)]
            found = [len(one) for one in self._data.values()]
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise self._damaged(str(error)) from error
        if found != wanted:
            raise self._damaged(f"expected {wanted} rows, found {found}")

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{self.folder}: expected local features, found damaged ones ({what})", next_step=f"remove {self.folder}"
        )


def feature_store(
    root: Path,
    name: str,
    files: Path,
    facts: Sequence[ImageFacts],
    digest: str,
    *,
    pool: WorkerPool,
    progress: Progress = no_progress,
) -> FeatureStore:
    """Return the features of a source's usable images, from the cache where they are known.

    Args:
        files: the absolute folder of the source's files.
        facts: of its images.
        digest: of the source's content.

    Raises:
        StorageError: the cache cannot be written, or another command is writing it.
        DataError: a file has changed since the source was fetched.
    """
    target = root / "data" / "cache" / f"{name}.features"
    wanted = {"code": _VERSION, "digest": digest}
    with stage(target):
        about, known = _finished(target)
        if known is None or about.get("digest") != digest:
            with replacing(target) as folder:
                _describe(files, facts, folder, known, pool=pool, progress=progress, name=name)
                write_json(folder / _MARKER, wanted)
    return FeatureStore(target.resolve())


def _finished(folder: Path) -> tuple[dict[str, Any], FeatureStore | None]:
    try:
        about = read_json(folder / _MARKER) or {}
        if about.get("code") != _VERSION:
            return {}, None
        store = FeatureStore(folder)
        store.check()
    except DataError as error:
        _log.warning("%s; its images are described again", error)
        return {}, None
    return about, store


def _describe(
    files: Path,
    facts: Sequence[ImageFacts],
    folder: Path,
    old: FeatureStore | None,
    *,
    pool: WorkerPool,
    progress: Progress,
    name: str,
) -> None:
    """Write the features of each content once, in the order of the first file that has it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = {one.sha256: one for one in reversed(facts) if not one.cause}
    chosen = [one for one in facts if contents.get(one.sha256) is one]
    places = old.places if old else {}
    new = [(files, one) for one in chosen if one.sha256 not in places]
    made = pool.map(_describe_batch, new, len(new), what=f"describe {name}", progress=progress)
    rows: dict[str, list[Any]] = {key: [] for key in ("sha256", "points", "orb_points", "width", "height")}
    out = {column: (folder / f"{column}.bin").open("wb") for column in (*(one[0] for one in _COLUMNS), "thumbnails")}
    try:
        for one in chosen:
            found = old.described(places[one.sha256]) if old and one.sha256 in places else next(made)
            parts: list[NDArray[Any]] = [found.features.points, found.features.descriptors]
            parts += [found.orb.points, found.orb.bits, found.thumbnail]
            for file, part in zip(out.values(), parts, strict=True):
                file.write(part.tobytes())
            values = (one.sha256, len(found.features.points), len(found.orb.points), *found.features.size)
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
    finally:
        for file in out.values():
            file.close()
    types = [(key, pa.string() if key == "sha256" else pa.int64()) for key in rows]
    pq.write_table(pa.Table.from_pydict(rows, schema=pa.schema(types)), folder / "contents.parquet")


def _describe_batch(jobs: Sequence[tuple[Path, ImageFacts]]) -> list[Described]:
    return list(_described(jobs))


def _described(jobs: Sequence[tuple[Path, ImageFacts]]) -> Iterator[Described]:
    import cv2

    for files, facts in jobs:
        gray = read_gray(files, facts)
        thumbnail = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        yield Described(detect(gray), detect_orb(gray), thumbnail)
