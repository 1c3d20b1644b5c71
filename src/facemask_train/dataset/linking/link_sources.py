"""Links the images of a build's sources, applies the pairs that a person tied or parted, and proves the splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facemask_train.core.config import FIXES
from facemask_train.core.errors import DataError
from facemask_train.core.fixes import Fixes, pairs_by_index
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import SPLITS, Progress
from facemask_train.dataset.card import LinkCounts, SplitCheck
from facemask_train.dataset.grouping.duplicates import Pair
from facemask_train.dataset.grouping.groups import Kept
from facemask_train.dataset.grouping.label_agreement import SourceImage
from facemask_train.dataset.linking.feature_store import feature_store
from facemask_train.dataset.linking.independent_check import CheckResult, find_copies
from facemask_train.dataset.linking.links import Link, StoredImages, find_links, with_links
from facemask_train.dataset.loading.load import LoadedSource
from facemask_train.sources.source_record import read_source, source_folder

Indices = tuple[int, int]

_SHOWN = 5  # copies that a message names


@dataclass(frozen=True, slots=True)
class Linked:
    """How the images of a build are linked.

    Attributes:
        images: all readable images.
        pairs: duplicates and near-duplicates, by hash or by local features.
        ties: further pairs that share a split.
        links: what local features found.
        parted: pairs that a person parted.
        stored: the features of the images; None if the recipe uses none.
    """

    images: Sequence[SourceImage]
    pairs: Sequence[Pair]
    ties: frozenset[Indices]
    links: tuple[Link, ...] = ()
    parted: frozenset[Indices] = frozenset()
    stored: StoredImages | None = None

    def counts(self) -> LinkCounts | None:
        """Return the figures for the card; None without local features."""
        if self.stored is None:
            return None
        verdicts = [(one.verdict, one.ties) for one in self.links]
        return LinkCounts(
            same=verdicts.count(("same", True)),
            scene=verdicts.count(("scene", True)),
            weak=verdicts.count(("weak", True)),
            untied=sum(not ties for _, ties in verdicts),
        )

    def prove(self, kept: Sequence[Kept]) -> tuple[SplitCheck | None, CheckResult | None]:
        """Look for copies across splits by other features than those that linked; None without local features."""
        if self.stored is None:
            return None, None
        splits = {(one.record.source, one.record.path): one.split for one in kept}
        places = [index for index, one in enumerate(self.images) if (one.source, one.path) in splits]
        chosen = StoredImages(self.stored.stores, tuple(self.stored.places[index] for index in places))
        place_of = {index: place for place, index in enumerate(places)}
        parted = {(place_of[a], place_of[b]) for a, b in self.parted if a in place_of and b in place_of}
        shown = [self.images[index] for index in places]
        ranks = [SPLITS.index(splits[one.source, one.path]) for one in shown]
        found = find_copies(chosen, [one.sha256 for one in shown], ranks, parted)
        copies = tuple(one._replace(later=places[one.later], earlier=places[one.earlier]) for one in found.copies)
        later = {one.later for one in copies}
        return SplitCheck(found.checked, found.of, len(later)), replace(found, copies=copies)


def link_sources(
    root: Path,
    loaded: Mapping[str, LoadedSource],
    images: Sequence[SourceImage],
    pairs: Sequence[Pair],
    fixes: Fixes,
    *,
    pool: WorkerPool,
    progress: Progress,
) -> Linked:
    """Find the links among the readable images of all sources by local features, beyond what hashes know as pairs."""
    stores = [
        feature_store(
            root,
            name,
            (source_folder(root, name) / "files").resolve(),  # processes on other machines have another current folder
            source.index.facts,
            read_source(root, name).digest,
            pool=pool,
            progress=progress,
        )
        for name, source in loaded.items()
    ]
    ranks = {name: rank for rank, name in enumerate(loaded)}
    digests = [one.sha256 for one in images]
    stored = StoredImages.of(stores, [ranks[one.source] for one in images], digests)
    links = find_links(stored, [(one.source, one.path) for one in images], pairs, pool=pool, progress=progress)
    return replace(apply_fixes(images, pairs, links, fixes), stored=stored)


def apply_fixes(images: Sequence[SourceImage], pairs: Sequence[Pair], links: Sequence[Link], fixes: Fixes) -> Linked:
    """Return the links after those that a person parted are dropped, and with those that a person tied."""
    digests, where = [one.sha256 for one in images], Path(FIXES)
    parted = pairs_by_index(where, fixes.part, digests)
    tied = pairs_by_index(where, fixes.tie, digests)
    links = tuple(one for one in links if (one.first, one.second) not in parted)
    together, ties = with_links([one for one in pairs if (one.first, one.second) not in parted], links)
    return Linked(images, together, frozenset(ties | tied), links, frozenset(parted))


def stop_at_copies(name: str, images: Sequence[SourceImage], found: CheckResult) -> None:
    """Stop a build whose splits share copies.

    Raises:
        DataError: an image of val or test has a copy in an earlier split; the message gives the lines that settle it.
    """
    if not found.copies:
        return
    shown = found.copies[:_SHOWN]
    pairs = "; ".join(
        f"{images[one.later].name} and {images[one.earlier].name} ({one.points} agreeing points)" for one in shown
    )
    lines = ", ".join(f"[{images[one.later].sha256}, {images[one.earlier].sha256}]" for one in shown)
    raise DataError(
        f"ensemble {name}: expected no copy of a val or test image in an earlier split, found"
        f" {len(found.copies)}: {pairs}",
        next_step=f"look at them, then add them to {FIXES} beside the recipe: tie: [{lines}] (or part:, if they are"
        " different photographs)",
    )
