"""Which split an image goes to: no scene is in two splits, and no new image moves an old one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from facemask_train.core.recipe import Split
from facemask_train.core.types import SPLITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PUBLISHED = {"train": "train", "valid": "val", "val": "val", "validation": "val", "test": "test"}
"""What the name of a source's own folder says."""


def split_of(sha256: str, split: Split) -> str:
    """Return `train`, `val` or `test` for an image by the sha256 (hex) of its published file.

    The first 64 bits, read as a fraction in [0, 1), fall below `train`, below `train + val`, or above. Images that
    are equal byte for byte get the same split.
    """
    position = int(sha256[:16], 16) / 16**16
    if position < split.train:
        return "train"
    return "val" if position < split.train + split.val else "test"


def published_split(path: str) -> str:
    """Return the split that an image's path names, or an empty string; the folder nearest to the image counts."""
    parts = reversed(PurePosixPath(path).parts[:-1])
    return next((PUBLISHED[part.lower()] for part in parts if part.lower() in PUBLISHED), "")


@dataclass(frozen=True, slots=True)
class Families:
    """Images that are tied by pairs, of the same image or of one scene, and so share a split.

    `first` is, for each image, the index of its family's first image; `splits` its split; `joined` the number of
    times that a later source tied families that were in different splits (they go to train together).
    """

    first: NDArray[np.int64]
    splits: list[str]
    joined: int


def families(digests: Sequence[str], ranks: Sequence[int], ties: Iterable[tuple[int, int]], split: Split) -> Families:
    """Give each family the split that the content of its first image says.

    Sources are taken one after the other, in the order of the recipe, as if each had been added later: so a source at
    the end of the list moves no image, but for those of families that only its images tie together.

    Args:
        digests: the sha256 of each image, in the order of sources.
        ranks: the place of each image's source in the recipe; does not fall.
        ties: pairs of indices.
    """
    import numpy as np

    rank = np.asarray(ranks, np.int64)
    edges = np.asarray(sorted(ties), np.int64).reshape(-1, 2)
    level = rank[edges].max(axis=1, initial=0)
    splits = np.array([SPLITS.index(split_of(digest, split)) for digest in digests], np.int8)
    first, joined = np.arange(len(digests)), 0
    for step in np.unique(level).tolist():
        before, first = first, _first_of(len(digests), edges[level <= step])
        joined += _settle(splits, before, first, rank < step)
    return Families(first, [SPLITS[code] for code in splits.tolist()], joined)


def _first_of(count: int, edges: NDArray[Any]) -> NDArray[np.int64]:
    """Return the lowest index of each image's connected component."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, lowest = np.unique(component, return_index=True)
    found: NDArray[np.int64] = lowest[component]
    return found


def _settle(splits: NDArray[np.int8], before: NDArray[Any], first: NDArray[Any], settled: NDArray[Any]) -> int:
    """Give the families that have just grown their split, in place; return how many were tied across splits.

    Args:
        before, first: each image's family before and now.
        settled: images of earlier sources, whose split stands.
    """
    import numpy as np

    grown = np.unique(first[first != before])
    joined = 0
    members = np.flatnonzero(np.isin(first, grown))
    order = members[np.argsort(first[members], kind="stable")]
    for family in np.split(order, np.flatnonzero(np.diff(first[order])) + 1) if len(order) else []:
        standing = np.unique(splits[family[settled[family]]])
        crossed = len(standing) > 1
        splits[family] = 0 if crossed else standing[0] if len(standing) else splits[family[0]]
        joined += crossed
    return joined
