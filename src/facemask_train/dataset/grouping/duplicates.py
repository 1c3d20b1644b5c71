"""Finds pairs of images that are duplicates or near-duplicates, in any of the 8 orientations.

The first step compares perceptual hashes: candidates are pairs whose 64 lowest frequencies differ in few bits. They
are found by comparing all pairs (numpy) or, for many images, with an index (faiss). The second step measures the
similarity of each candidate (`similarity.py`). A pair is

    duplicate         similar in every window: re-encoded, rescaled, cropped by up to 2 % per side, rotated or mirrored
    near-duplicate    similar on the whole, but not in every window: two shots of one scene, a copy with something
                      drawn on it

Near-duplicates are kept as separate images and share a split. Images with too little structure (a wall, the sky) are
duplicates only if their bytes are equal. Does not read labels or files.

The thresholds of `recipe.Duplicates` were measured on real images (`bench/duplicates.py`). Of copies cropped by up to
2 % per side, rescaled to a quarter and re-encoded at quality 30, all at once, all are within 12 of the 64 bits, and
more than 99 % meet the whole condition on the bits (see `_close`); of other pairs in the archives, 2.5 in 100,000.
The worst window of such a copy has a correlation of at least 0.84 in 99.5 % of the cases. If one face has moved, it
is below 0.8 in 99 % of the cases for faces of 1 to 2 % of the image, in 92 % for 0.5 to 1 %, in 75 % for 0.3 to 0.5 %.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from facemask_train.core.boxes import UnitMap
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.grouping.hashing import ORIENTATIONS, orient_hashes, orient_image
from facemask_train.dataset.grouping.similarity import Similarity, measure_similarity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facemask_train.dataset.grouping.hashing import Hashes

    Indices = NDArray[np.int64]
    HashWords = NDArray[np.uint64]

_MAX_DISTANCE = 96
"""Bits of 256 that may differ in a candidate: copies differ in at most 66, other pairs in 94 or more (99.99 %)."""

ALL_PAIRS = 10_000
"""Up to this many images, all pairs are compared (8 orientations: 1.5 s); above it, an index finds the same pairs."""

_RUN, _FLIPS = 21, 2
"""In at least one of six runs of 21 of the lowest 63 bits (three of consecutive bits, three of every third bit), at
most 2 bits differ. This is what faiss can look up in its tables. The condition also holds when all pairs are compared,
so adding an image never changes which others are pairs."""

_RUNS = tuple(
    [range(start * _RUN, (start + 1) * _RUN) for start in range(3)] + [range(start, 3 * _RUN, 3) for start in range(3)]
)

_ROWS = 512  # rows of the table of all pairs that are compared at a time
_QUERIES = 50_000  # hashes that are looked up in the index at a time


class Candidate(NamedTuple):
    """Two images (by index, the lower first) with similar hashes when the second is put in `orientation`."""

    first: int
    second: int
    orientation: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that are duplicates (`same`) or near-duplicates.

    Attributes:
        orientation: puts the second image in the orientation of the first.
        worst, mean: the correlation of their least similar window, and the mean of all windows.
        transform: lays the second image over the first, in fractions of their sides, if one is part of the other.
    """

    first: int
    second: int
    orientation: int
    worst: float
    mean: float
    same: bool
    transform: UnitMap | None = None


def find_pairs(
    hashes: Hashes,
    thumbnail: Callable[[int], NDArray[np.uint8]],
    digests: Sequence[str],
    settings: Duplicates,
    *,
    pool: WorkerPool = WorkerPool(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> list[Pair]:
    """Return all pairs of duplicates and near-duplicates, sorted by their indices.

    Images with equal bytes are compared once, by the first of them. A pair consists of the first image of one content
    and any image of another content, or of the first of several equal images and one of the others. So thousands of
    equal images give thousands of pairs, not millions.

    Args:
        hashes: (n, 4), see `hashing.py`.
        thumbnail: returns the thumbnail of an image, (SIDE, SIDE), by its index.
        digests: the sha256 of the n files.
    """
    import numpy as np

    equal: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        equal[digest].append(index)
    plain = set(np.flatnonzero(~np.any(hashes, axis=1)).tolist())  # without structure: only equal bytes count
    firsts = [indices[0] for indices in equal.values() if indices[0] not in plain]
    candidates = [
        Candidate(firsts[one.first], firsts[one.second], one.orientation)
        for one in find_candidates(hashes[firsts], settings.distance)
    ]
    jobs = ((thumbnail(one.first), thumbnail(one.second), one.orientation) for one in candidates)
    measured = pool.map(_measure_batch, jobs, len(candidates), what="compare images", progress=progress)
    found = [Pair(first, other, 0, 1.0, 1.0, same=True) for first, *others in equal.values() for other in others]
    for pair in _best(candidates, measured, settings).values():
        found += [replace(pair, second=other) for other in equal[digests[pair.second]]]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _best(
    candidates: Iterable[Candidate], measured: Iterable[Similarity], settings: Duplicates
) -> dict[tuple[int, int], Pair]:
    """Return the pairs that are similar enough, each in the orientation in which it is most similar."""
    found: dict[tuple[int, int], Pair] = {}
    for one, similarity in zip(candidates, measured, strict=True):
        best = found.get((one.first, one.second))
        if similarity.mean >= settings.near_duplicate and (best is None or similarity.mean > best.mean):
            same = similarity.worst >= settings.similarity
            found[one.first, one.second] = Pair(*one, similarity.worst, similarity.mean, same)
    return found


def _measure_batch(jobs: Sequence[tuple[Any, Any, int]]) -> list[Similarity]:
    import numpy as np

    return [
        measure_similarity(np.asarray(one), np.ascontiguousarray(orient_image(np.asarray(other), by)))
        for one, other, by in jobs
    ]


# ---- candidates: pairs of similar hashes ----


def find_candidates(hashes: Hashes, distance: int) -> list[Candidate]:
    """Return the pairs with similar hashes, sorted.

    At most `distance` of the lowest 64 bits differ, at most `_FLIPS` bits of one of the runs, and at most
    `_MAX_DISTANCE` of all 256.
    """
    search = partial(_by_index, _index(hashes[:, 0].copy())) if len(hashes) > ALL_PAIRS else _by_all_pairs
    found = []
    for orientation in ORIENTATIONS:
        queries = orient_hashes(hashes, orientation)
        for first, second in search(hashes[:, 0].copy(), queries[:, 0].copy(), distance):
            near = _distance(hashes[first], queries[second]) <= _MAX_DISTANCE
            pairs = zip(first[near].tolist(), second[near].tolist(), strict=True)
            found += [Candidate(one, other, orientation) for one, other in pairs]
    return sorted(found)


def _distance(some: Hashes, others: Hashes) -> NDArray[Any]:
    import numpy as np

    distance: NDArray[Any] = np.bitwise_count(some ^ others).sum(axis=-1, dtype=np.int64)
    return distance


def _by_all_pairs(hashes: HashWords, queries: HashWords, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the indices (first, second) of close pairs; `queries` are the oriented hashes of the second images."""
    import numpy as np

    for start in range(0, len(hashes), _ROWS):
        rows, columns = np.nonzero(
            np.bitwise_count(hashes[start : start + _ROWS, None] ^ queries[None, start:]) <= distance
        )
        first, second = rows + start, columns + start
        yield _close(hashes, queries, first, second, distance)


def _close(
    hashes: HashWords, queries: HashWords, first: Indices, second: Indices, distance: int
) -> tuple[Indices, Indices]:
    """Return the pairs, each once, that differ in few enough bits, in total and in one of the runs."""
    import numpy as np

    differing = hashes[first] ^ queries[second]
    masks = [np.uint64(sum(1 << bit for bit in run)) for run in _RUNS]
    least = np.min([np.bitwise_count(differing & mask) for mask in masks], axis=0)
    close = (first < second) & (least <= _FLIPS) & (np.bitwise_count(differing) <= distance)
    return first[close], second[close]


def _by_index(index: Any, hashes: HashWords, queries: HashWords, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the same as `_by_all_pairs`, in time that grows with the number of images instead of its square."""
    import numpy as np

    for start in range(0, len(queries), _QUERIES):
        limits, _, found = index.range_search(_keys(queries[start : start + _QUERIES]), 2 * distance + 1)
        second = np.repeat(np.arange(len(limits) - 1, dtype=np.int64) + start, np.diff(limits).astype(np.int64))
        yield _close(hashes, queries, found, second, distance)


def _index(hashes: HashWords) -> Any:
    import faiss

    index = faiss.IndexBinaryMultiHash(128, len(_RUNS), _RUN)
    index.nflip = _FLIPS
    index.add(_keys(hashes))
    return index


def _keys(hashes: HashWords) -> NDArray[np.uint8]:
    """Return the runs of each hash one after the other, (n, 16) bytes, from which faiss builds its tables."""
    import numpy as np

    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    keys = np.zeros((len(hashes), 128), np.uint8)
    keys[:, : len(_RUNS) * _RUN] = bits[:, [bit for run in _RUNS for bit in run]]
    return np.packbits(keys, axis=1, bitorder="little")


# ---- groups of duplicates ----


def groups_of(pairs: Iterable[Pair]) -> dict[int, int]:
    """Return for each image with an earlier duplicate the first image (by index) of its group.

    An image joins a group only if it is a duplicate of the group's first image. A chain of similar pairs whose ends
    are not similar therefore makes two groups; the pairs between them still keep both groups in one split.
    """
    earlier: dict[int, list[int]] = defaultdict(list)
    for pair in pairs:
        if pair.same:
            earlier[pair.second].append(pair.first)
    leader: dict[int, int] = {}
    for image in sorted(earlier):
        leaders = [other for other in sorted(earlier[image]) if other not in leader]
        if leaders:
            leader[image] = leaders[0]
    return leader
