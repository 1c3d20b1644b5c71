"""Finds the pairs of images that are the same image, or the same scene, in any of the 8 orientations.

First the hashes: pairs whose lowest 64 frequencies differ in few signs, found by comparing all (numpy) or, where those
grow too many, through an index (faiss). Then a second measure, of another kind, on each pair (`likeness.py`). A pair is

    same     alike in every window: re-encoded, rescaled, cropped by up to 2 % a side, turned or mirrored
    kin      alike on the whole, but not everywhere: two moments of one scene, a copy with something drawn on it

Kin stay apart as images, and share a split. Where there is too little structure to tell (a wall, a sky), only equal
bytes make a pair. Knows no label and no file.

How the thresholds of `recipe.Duplicates` were found (`bench/duplicates.py`, on real images): of copies cropped by up
to 2 % a side, rescaled to a quarter and re-encoded at quality 30, all at once, all are within 12 of the 64 signs, and
more than 99 % meet the whole condition on the signs (see `_close`); of the archives' other pairs, 2.5 in 100,000.
The worst window of such a copy correlates by 0.84 and more in 99.5 %; where one face of 1 to 2 % of the image has
moved it is below 0.8 in 99 %, of 0.5 to 1 % in 92 %, of 0.3 to 0.5 % in 75 %.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.grouping.hashing import ORIENTATIONS, oriented, turned
from facemask_train.dataset.grouping.similarity import Likeness, likeness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facemask_train.dataset.grouping.hashing import Bits

    Indices = NDArray[np.int64]
    Words = NDArray[np.uint64]

_FAR = 96
"""Signs of 256 that may differ in a pair to look at: copies differ in 66 at most, others in 94 and more (99.99 %)."""

ALL_PAIRS = 10_000
"""Images up to which all pairs are compared (8 orientations: 1.5 s); beyond, an index finds the same pairs."""

_RUN, _FLIPS = 21, 2
"""Of one of six runs of 21 of the lowest 63 signs (three as they stand, three of every third) up to 2 differ. That is
what faiss can look up in tables, and so a part of what makes a pair, however few the images are: one more never
changes which others are pairs."""

_RUNS = tuple(
    [range(start * _RUN, (start + 1) * _RUN) for start in range(3)] + [range(start, 3 * _RUN, 3) for start in range(3)]
)

_ROWS = 512  # rows of the table of all pairs at a time
_QUERIES = 50_000  # questions to the index at a time


class Candidate(NamedTuple):
    """Two images (by index, the lower first) whose hashes are alike when the second is turned by `orientation`."""

    first: int
    second: int
    orientation: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that are the same image, or kin; `orientation` turns the second as the first is."""

    first: int
    second: int
    orientation: int
    worst: float
    mean: float
    same: bool


def find_pairs(
    hashes: Bits,
    thumbnail: Callable[[int], NDArray[np.uint8]],
    digests: Sequence[str],
    settings: Duplicates,
    *,
    pool: WorkerPool = WorkerPool(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> list[Pair]:
    """Return the pairs of images that are the same or kin, in the order of their indices.

    Images of equal bytes are compared once: the first of them stands for all. So a pair is of the first image of
    one content and any image of another, or of equal images of which one is the first: thousands of equal images
    make thousands of pairs, not millions.

    Args:
        hashes: (n, 4), see `fingerprints`.
        thumbnail: gives an image's, (SIDE, SIDE), by its index.
        digests: n sha256 of the files.
    """
    import numpy as np

    twins: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        twins[digest].append(index)
    flat = set(np.flatnonzero(~np.any(hashes, axis=1)).tolist())  # without structure: the same as equals alone
    firsts = [indices[0] for indices in twins.values() if indices[0] not in flat]
    candidates = [
        Candidate(firsts[one.first], firsts[one.second], one.orientation)
        for one in find_candidates(hashes[firsts], settings.distance)
    ]
    jobs = ((thumbnail(one.first), thumbnail(one.second), one.orientation) for one in candidates)
    measured = pool.map(_measure_all, jobs, len(candidates), what="compare images", progress=progress)
    found = [Pair(first, twin, 0, 1.0, 1.0, same=True) for first, *others in twins.values() for twin in others]
    for pair in _best(candidates, measured, settings).values():
        found += [replace(pair, second=twin) for twin in twins[digests[pair.second]]]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _best(
    candidates: Iterable[Candidate], measured: Iterable[Likeness], settings: Duplicates
) -> dict[tuple[int, int], Pair]:
    """Return the pairs that are alike enough, each in the orientation in which it is most alike."""
    found: dict[tuple[int, int], Pair] = {}
    for one, alike in zip(candidates, measured, strict=True):
        best = found.get((one.first, one.second))
        if alike.mean >= settings.near_duplicate and (best is None or alike.mean > best.mean):
            same = alike.worst >= settings.similarity
            found[one.first, one.second] = Pair(*one, alike.worst, alike.mean, same)
    return found


def _measure_all(jobs: Sequence[tuple[Any, Any, int]]) -> list[Likeness]:
    import numpy as np

    return [likeness(np.asarray(one), np.ascontiguousarray(turned(np.asarray(other), by))) for one, other, by in jobs]


# ---- candidates: pairs of hashes that are alike ----


def find_candidates(hashes: Bits, distance: int) -> list[Candidate]:
    """Return the pairs whose hashes are alike, sorted.

    Up to `distance` of the lowest 64 signs differ, up to `_FLIPS` of one of the runs, and up to `_FAR` of all 256.
    """
    search = partial(_by_index, _index(hashes[:, 0].copy())) if len(hashes) > ALL_PAIRS else _by_all_pairs
    found = []
    for orientation in ORIENTATIONS:
        asked = oriented(hashes, orientation)
        for first, second in search(hashes[:, 0].copy(), asked[:, 0].copy(), distance):
            near = _distance(hashes[first], asked[second]) <= _FAR
            pairs = zip(first[near].tolist(), second[near].tolist(), strict=True)
            found += [Candidate(one, other, orientation) for one, other in pairs]
    return sorted(found)


def _distance(some: Bits, others: Bits) -> NDArray[Any]:
    import numpy as np

    distance: NDArray[Any] = np.bitwise_count(some ^ others).sum(axis=-1, dtype=np.int64)
    return distance


def _by_all_pairs(hashes: Words, asked: Words, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield the indices (first, second) of close pairs; it is the second's hash that was turned."""
    import numpy as np

    for start in range(0, len(hashes), _ROWS):
        rows, columns = np.nonzero(
            np.bitwise_count(hashes[start : start + _ROWS, None] ^ asked[None, start:]) <= distance
        )
        first, second = rows + start, columns + start
        yield _close(hashes, asked, first, second, distance)


def _close(hashes: Words, asked: Words, first: Indices, second: Indices, distance: int) -> tuple[Indices, Indices]:
    """Keep the pairs, each once, that differ little enough, on the whole and in one of the runs."""
    import numpy as np

    differing = hashes[first] ^ asked[second]
    masks = [np.uint64(sum(1 << bit for bit in run)) for run in _RUNS]
    nearest = np.min([np.bitwise_count(differing & mask) for mask in masks], axis=0)
    taken = (first < second) & (nearest <= _FLIPS) & (np.bitwise_count(differing) <= distance)
    return first[taken], second[taken]


def _by_index(index: Any, hashes: Words, asked: Words, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Do what `_by_all_pairs` does in time that grows with the number of images, not with its square."""
    import numpy as np

    for start in range(0, len(asked), _QUERIES):
        limits, _, found = index.range_search(_keys(asked[start : start + _QUERIES]), 2 * distance + 1)
        second = np.repeat(np.arange(len(limits) - 1, dtype=np.int64) + start, np.diff(limits).astype(np.int64))
        yield _close(hashes, asked, found, second, distance)


def _index(hashes: Words) -> Any:
    import faiss

    index = faiss.IndexBinaryMultiHash(128, len(_RUNS), _RUN)
    index.nflip = _FLIPS
    index.add(_keys(hashes))
    return index


def _keys(hashes: Words) -> NDArray[np.uint8]:
    """Return the runs of each hash one after the other, (n, 16) bytes: what faiss makes its tables of."""
    import numpy as np

    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    keys = np.zeros((len(hashes), 128), np.uint8)
    keys[:, : len(_RUNS) * _RUN] = bits[:, [bit for run in _RUNS for bit in run]]
    return np.packbits(keys, axis=1, bitorder="little")


# ---- groups: what is the same image, and what has to stay in one split ----


def groups_of(pairs: Iterable[Pair]) -> dict[int, int]:
    """Return, for each image that has a copy before it, the first image (by index) that it is the same as.

    An image joins a group only if it is the same as the group's first image: a chain of pairs, each alike, whose
    ends are not, makes two groups. Pairs that this leaves between groups are for the split to respect.
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
