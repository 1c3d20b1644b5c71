"""Assigns images to splits: no scene is in two splits, and a new source moves no image of an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from facemask_train.core.recipe import Split
from facemask_train.core.types import SPLITS
from facemask_train.formats.split_lists import SPLIT_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def split_of(sha256: str, split: Split) -> str:
    """Return `train`, `val` or `test` for an image by the sha256 (hex) of its published file.

    The first 64 bits, read as a fraction in [0, 1), are compared with `train` and `train + val`. Images with equal
    bytes get the same split.
    """
    position = min(int(sha256[:16], 16) / 16**16, 1 - 2**-53)  # the highest digests would round up to 1
    if position < split.train:
        return "train"
    return "val" if position < split.train + split.val else "test"


def published_split(path: str) -> str:
    """Return the split named by a folder of an image's path (the innermost one counts), or an empty string."""
    parts = reversed(PurePosixPath(path).parts[:-1])
    return next((SPLIT_NAMES[part.lower()] for part in parts if part.lower() in SPLIT_NAMES), "")


@dataclass(frozen=True, slots=True)
class SplitGroups:
    """Groups of images that share a split because pairs of duplicates or near-duplicates connect them.

    Attributes:
        first: for each image, the index of the first image of its group.
        splits: for each image, its split.
        joined: how often a later source connected groups in different splits; these go to train together.
    """

    first: NDArray[np.int64]
    splits: list[str]
    joined: int


def assign_splits(
    digests: Sequence[str], ranks: Sequence[int], links: Iterable[tuple[int, int]], split: Split
) -> SplitGroups:
    """Give each group the split that the content of its first image determines.

    Sources are taken one after the other, in the order of the recipe, as if each had been added later. So a source at
    the end of the list moves no image, except images of groups that only its images connect.

    Args:
        digests: the sha256 of each image, in the order of sources.
        ranks: the position of each image's source in the recipe; must not decrease.
        links: pairs of indices.
    """
    import numpy as np

    rank = np.asarray(ranks, np.int64)
    edges = np.asarray(sorted(links), np.int64).reshape(-1, 2)
    level = rank[edges].max(axis=1, initial=0)
    splits = np.array([SPLITS.index(split_of(digest, split)) for digest in digests], np.int8)
    first, joined = np.arange(len(digests)), 0
    for step in np.unique(level).tolist():
        before, first = first, _first_of(len(digests), edges[level <= step])
        joined += _settle(splits, before, first, rank < step)
    return SplitGroups(first, [SPLITS[code] for code in splits.tolist()], joined)


def _first_of(count: int, edges: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each image the lowest index in its connected component."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, lowest = np.unique(component, return_index=True)
    found: NDArray[np.int64] = lowest[component]
    return found


def _settle(splits: NDArray[np.int8], before: NDArray[Any], first: NDArray[Any], settled: NDArray[Any]) -> int:
    """Set the split of the groups that have just grown, in place; return how many connected different splits.

    Args:
        before, first: for each image, the first image of its group before and now.
        settled: images of earlier sources, whose split is fixed.
    """
    import numpy as np

    grown = np.unique(first[first != before])
    joined = 0
    members = np.flatnonzero(np.isin(first, grown))
    order = members[np.argsort(first[members], kind="stable")]
    for group in np.split(order, np.flatnonzero(np.diff(first[order])) + 1) if len(order) else []:
        fixed = np.unique(splits[group[settled[group]]])
        crossed = len(fixed) > 1
        splits[group] = 0 if crossed else fixed[0] if len(fixed) else splits[group[0]]
        joined += crossed
    return joined
