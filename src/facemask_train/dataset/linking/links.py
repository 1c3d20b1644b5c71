"""Links between images that whole-image hashes do not see: candidates, their verdicts, and which of them tie.

same     the same photograph: one is kept, and exclusions and conflicts act on all
scene    the same scene or series: the images share a split, and nothing else
weak     perhaps: ties an image to a small group, but never two large groups, which are shown for a person to settle
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from facemask_train.core.boxes import UnitMap
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.grouping.duplicates import Pair
from facemask_train.dataset.linking.feature_store import FeatureStore
from facemask_train.dataset.linking.geometric_check import Verdict, compare_pixels, find_geometry, verdict_of
from facemask_train.dataset.linking.independent_check import OrbFeatures
from facemask_train.dataset.linking.local_features import mirrored
from facemask_train.dataset.linking.retrieval import Candidate, find_candidates, named_alike

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGE = 5
"""Images from which a group is large: a weak link between two such groups ties nothing."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two images (by index, the lower first) that share a photograph or a scene.

    Attributes:
        points: local features that agree.
        agreeing: the share of the common pixels, in windows, that agree.
        transform: lays the second image over the first, in fractions of their sides.
        ties: whether the two share a split because of it.
    """

    first: int
    second: int
    verdict: Verdict
    points: int
    agreeing: float
    transform: UnitMap
    ties: bool = True


@dataclass(frozen=True, slots=True)
class StoredImages:
    """The features of images by their index, from the stores of their sources."""

    stores: tuple[FeatureStore, ...]
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, stores: Sequence[FeatureStore], ranks: Sequence[int], digests: Sequence[str]) -> StoredImages:
        """Look up the images of sources (`ranks`) by the sha256 of their files."""
        found = ((rank, stores[rank].places[digest]) for rank, digest in zip(ranks, digests, strict=True))
        return cls(tuple(stores), tuple(found))

    def descriptors(self, index: int) -> NDArray[np.uint8]:
        """Return the descriptors of an image, (n, LENGTH)."""
        source, place = self.places[index]
        return self.stores[source].descriptors(place)

    def orb(self, index: int) -> OrbFeatures:
        """Return the ORB features of an image."""
        source, place = self.places[index]
        return self.stores[source].described(place).orb

    def thumbnail(self, index: int) -> NDArray[np.uint8]:
        """Return the thumbnail of an image, (SIDE, SIDE)."""
        source, place = self.places[index]
        return self.stores[source].described(place).thumbnail


class _Job(NamedTuple):
    first: tuple[int, int]
    second: tuple[int, int]
    mirrored: bool


class _Measured(NamedTuple):
    verdict: Verdict
    points: int
    agreeing: float
    transform: UnitMap


def find_links(
    images: StoredImages,
    names: Sequence[tuple[str, str]],
    known: Sequence[Pair],
    *,
    pool: WorkerPool = WorkerPool(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> tuple[Link, ...]:
    """Return the links among images, sorted by their indices, without those that hashes know as the same image.

    Args:
        names: the source and the path of each image, in the order of the recipe's sources.
        known: the pairs that hashes found.
    """
    ranks = [source for source, _ in images.places]
    same = {(pair.first, pair.second) for pair in known if pair.same}
    later = {second for _, second in same}
    alone = [index for index in range(len(names)) if index not in later]  # its copies follow the first of a group
    chosen = StoredImages(images.stores, tuple(images.places[index] for index in alone))
    proposed = find_candidates(chosen, [ranks[index] for index in alone])
    hinted = named_alike([names[index] for index in alone])
    pairs = [Candidate(alone[a], alone[b], way) for a, b, way in sorted({*proposed, *hinted})]
    jobs = (_Job(images.places[one.first], images.places[one.second], one.mirrored) for one in pairs)
    measure = partial(_measure_batch, images.stores)
    measured = pool.map(measure, jobs, len(pairs), what="compare points", progress=progress)
    best: dict[tuple[int, int], Link] = {}
    for one, found in zip(pairs, measured, strict=True):
        key = (one.first, one.second)
        if found is not None and (key not in best or found.points > best[key].points):
            best[key] = Link(*key, found.verdict, found.points, found.agreeing, found.transform)
    return _settled([best[key] for key in sorted(best)], known, ranks)


def _measure_batch(stores: Sequence[FeatureStore], jobs: Sequence[_Job]) -> list[_Measured | None]:
    return [_measure(stores, job) for job in jobs]


def _measure(stores: Sequence[FeatureStore], job: _Job) -> _Measured | None:
    one, other = (stores[source].described(place) for source, place in (job.first, job.second))
    features, thumbnail = other.features, other.thumbnail
    if job.mirrored:
        features, thumbnail = mirrored(features), thumbnail[:, ::-1]
    geometry = find_geometry(one.features, features)
    if geometry is None:
        return None
    pixels = compare_pixels(one.thumbnail, thumbnail, geometry.transform)
    verdict = verdict_of(geometry.points, pixels)
    if verdict is None or pixels is None:
        return None
    transform = _unmirrored(geometry.transform) if job.mirrored else geometry.transform
    return _Measured(verdict, geometry.points, round(pixels.agreeing, 3), transform)


def _unmirrored(transform: UnitMap) -> UnitMap:
    """Return a map of the mirrored second image as one of the image itself."""
    a, b, c, d, e, f = transform
    return -a, b, a + c, -d, e, d + f


def _settled(links: Sequence[Link], known: Sequence[Pair], ranks: Sequence[int]) -> tuple[Link, ...]:
    """Return the links, those of weak ones untied that would connect two large groups.

    Groups are counted among the sources up to the later of the two, so that a source at the end changes nothing here.
    """
    strong = [(one.first, one.second) for one in links if one.verdict != "weak"]
    strong += [(pair.first, pair.second) for pair in known]
    sizes = {
        rank: _group_sizes([pair for pair in strong if ranks[pair[1]] <= rank])
        for rank in {ranks[one.second] for one in links if one.verdict == "weak"}
    }
    return tuple(
        replace(one, ties=not _are_large(one, sizes[ranks[one.second]])) if one.verdict == "weak" else one
        for one in links
    )


def _are_large(link: Link, sizes: Mapping[int, int]) -> bool:
    return min(sizes.get(link.first, 1), sizes.get(link.second, 1)) >= LARGE


def _group_sizes(edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the number of images in the connected group of each image that has an edge."""
    parent: dict[int, int] = {}

    def first_of(index: int) -> int:
        while parent.setdefault(index, index) != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in edges:
        low, high = sorted((first_of(one), first_of(other)))
        parent[high] = low
    sizes = Counter(first_of(index) for index in list(parent))
    return {index: sizes[first_of(index)] for index in list(parent)}


def pairs_and_ties(links: Sequence[Link]) -> tuple[list[Pair], set[tuple[int, int]]]:
    """Return the links of one photograph as pairs that merge, and those that only share a split."""
    same = [
        Pair(one.first, one.second, 0, one.agreeing, one.agreeing, same=True, transform=one.transform)
        for one in links
        if one.verdict == "same"
    ]
    return same, {(one.first, one.second) for one in links if one.ties and one.verdict != "same"}


def with_links(pairs: Sequence[Pair], links: Sequence[Link]) -> tuple[list[Pair], set[tuple[int, int]]]:
    """Return the pairs that hashes found together with the links of one photograph, and the ties of the others.

    A near-duplicate by its hash stays one, whatever its points say: some window of the two images differs.
    """
    same, ties = pairs_and_ties(links)
    found = {(pair.first, pair.second): pair for pair in pairs}
    for pair in same:
        found.setdefault((pair.first, pair.second), pair)
    return [found[key] for key in sorted(found)], ties
