"""Proposes pairs of images that may share a photograph or a scene: those with many near descriptors. Pure.

Each source has an index of the strongest descriptors of its images (faiss: inverted lists, a byte a component). Every
image looks up its own descriptors, as they are and mirrored, in the index of its source and in those of earlier ones,
and the images that were hit most often are proposed. The lists are divided by descriptors of the first source, so a
source at the end changes nothing of what earlier ones propose.

A descriptor has length 255, so all products are whole numbers below 2 ** 24: float32 sums of them are exact, in any
order, with any number of threads, and on any processor.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from facemask_train.dataset.linking.local_features import LENGTH, mirror_descriptors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Descriptors = NDArray[np.uint8]
    Indices = NDArray[np.int64]

STRONGEST = 160
"""Descriptors of an image that are indexed and looked up."""

_NEIGHBORS, _LISTS, _PROBES = 8, 2048, 6
_PER_LIST = 8  # descriptors of the first source for each list
_FARTHEST = 0.36 * 255**2  # squared distance: of true matches 9 in 10 are nearer
_LEAST_VOTES, _MOST_CANDIDATES = 7, 5
_BATCH = 128  # images that are looked up at a time

_EXPORTED = re.compile(r"_(?:jpe?g|png|webp)\.rf\.[0-9a-zA-Z]{16,}$")
_COPIED = re.compile(r"(?:\s*\(\d+\)|[ _-]+copy(?:[ _-]*\d+)?|\s+-\s+copy)$", re.IGNORECASE)
_ALIKE = 12  # images with one name: more say that the name means nothing


class Candidate(NamedTuple):
    """Two images (by index, the lower first) that may be linked; with `mirrored`, the second one mirrored."""

    first: int
    second: int
    mirrored: bool


class DescriptorSource(Protocol):
    """What the search reads of each image, one at a time."""

    def descriptors(self, index: int) -> Descriptors:
        """Return the descriptors of an image, (n, LENGTH), the strongest first."""
        ...


def find_candidates(images: DescriptorSource, ranks: Sequence[int]) -> list[Candidate]:
    """Return the pairs whose descriptors are near, sorted.

    Args:
        ranks: the position of each image's source in the recipe; must not decrease.
    """
    import numpy as np

    rank = np.asarray(ranks, np.int64)
    if not len(rank):
        return []
    lists = _lists(images, np.flatnonzero(rank == rank[0]))
    indexes: list[tuple[Any, Indices]] = []
    found: set[Candidate] = set()
    for source in np.unique(rank).tolist():
        members = np.flatnonzero(rank == source)
        indexes.append(_index(images, members, lists))
        for start in range(0, len(members), _BATCH):
            found.update(_look_up(images, members[start : start + _BATCH], indexes, lists))
    return sorted(found)


def _strongest(images: DescriptorSource, members: Indices) -> tuple[Descriptors, Indices]:
    """Return the strongest descriptors of some images, and the image of each."""
    import numpy as np

    found = [images.descriptors(index)[:STRONGEST] for index in members.tolist()]
    counts = [len(one) for one in found]
    rows = np.concatenate([*found, np.zeros((0, LENGTH), np.uint8)])
    return rows, np.repeat(members, counts)


def _lists(images: DescriptorSource, members: Indices) -> Any:
    """Return the centers of the inverted lists: descriptors of the first source, evenly spaced."""
    import faiss
    import numpy as np

    share = members[:: max(1, len(members) * STRONGEST // (4 * _LISTS * _PER_LIST))]
    rows, _ = _strongest(images, share)
    count = max(1, min(_LISTS, len(rows) // _PER_LIST))
    centers = (
        rows[np.linspace(0, max(0, len(rows) - 1), count).astype(np.int64)] if len(rows) else np.zeros((1, LENGTH))
    )
    quantizer = faiss.IndexFlatL2(LENGTH)
    quantizer.add(np.unique(centers, axis=0).astype(np.float32))
    return quantizer


def _index(images: DescriptorSource, members: Indices, lists: Any) -> tuple[Any, Indices]:
    import faiss
    import numpy as np

    index = faiss.IndexIVFScalarQuantizer(lists, LENGTH, lists.ntotal, faiss.ScalarQuantizer.QT_8bit_direct)
    index.by_residual, index.is_trained = False, True
    index.nprobe = min(_PROBES, lists.ntotal)
    owners = []
    for start in range(0, len(members), _BATCH):
        rows, of = _strongest(images, members[start : start + _BATCH])
        owners.append(of)
        if len(rows):
            index.add(rows.astype(np.float32))
    return index, np.concatenate(owners)


def _look_up(
    images: DescriptorSource, members: Indices, indexes: Sequence[tuple[Any, Indices]], lists: Any
) -> Iterator[Candidate]:
    """Yield the candidates of some images of the latest source."""
    import numpy as np

    rows, of = _strongest(images, members)
    if not len(rows):
        return
    for mirrored in (False, True):
        queries = (mirror_descriptors(rows) if mirrored else rows).astype(np.float32)
        distances, near_lists = lists.search(queries, min(_PROBES, lists.ntotal))
        for index, owners in indexes:
            squares, hits = index.search_preassigned(queries, _NEIGHBORS, near_lists, distances)
            valid = (hits >= 0) & (squares < _FARTHEST)
            asked = np.repeat(of[:, None], hits.shape[1], axis=1)[valid]
            for one, other in _voted(asked, owners[hits[valid]], np.nonzero(valid)[0]):
                yield Candidate(min(one, other), max(one, other), mirrored)


def _voted(asked: Indices, found: Indices, point: Indices) -> Iterator[tuple[int, int]]:
    """Yield for each image those that most of its points hit; a point counts once for an image."""
    import numpy as np

    other = asked != found
    once = np.unique(np.stack([asked[other], found[other], point[other]], axis=1), axis=0)
    pairs, votes = np.unique(once[:, :2], axis=0, return_counts=True)
    enough = votes >= _LEAST_VOTES
    pairs, votes = pairs[enough], votes[enough]
    order = np.lexsort((pairs[:, 1], -votes, pairs[:, 0]))
    previous, place = -1, 0
    for one, hit in pairs[order].tolist():
        place = place + 1 if one == previous else 0
        previous = one
        if place < _MOST_CANDIDATES:
            yield one, hit


def named_alike(names: Sequence[tuple[str, str]]) -> list[Candidate]:
    """Return pairs of images whose names say that one was exported or copied from the other. They only propose.

    Args:
        names: the source and the path of each image.
    """
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    plain = [_plain_stem(path) for _, path in names]
    for index, (source, _) in enumerate(names):
        alike[source, plain[index]].append(index)
    found: set[Candidate] = set()
    for members in alike.values():
        if 1 < len(members) <= _ALIKE:
            pairs = [*((members[0], other) for other in members[1:]), *pairwise(members)]
            found.update(Candidate(one, other, way) for one, other in pairs for way in (False, True))
    return sorted(found)


def _plain_stem(path: str) -> str:
    """Return the name of a file without what exporters and file managers add: `a_jpg.rf.<hash>`, `a (1)`, `a copy`."""
    stem = PurePosixPath(path).stem
    stem = _EXPORTED.sub("", stem)
    return _COPIED.sub("", stem).lower()
