"""Says why no image of a build can be used. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from facemask_train.core.errors import DataError, closest
from facemask_train.dataset.loading.load import LoadedSource
from facemask_train.dataset.loading.validate import Issue
from facemask_train.formats.pairing import like_stem

_SHOWN = 3  # causes

_NEXT = {
    "no-label-file": "give each image a label file of its own name; or, if there are labels of another format,"
    " check `format:` of the source in configs/sources.yaml",
    "worn-incorrectly": "set `worn_incorrectly: drop-box` in the recipe to leave out the boxes, not the images",
    "unreadable": "check that the files are whole, and that they are images",
    "size-mismatch": "annotate the images as they are, or give the images that were annotated",
}


def no_usable_image(ensemble: str, loaded: Mapping[str, LoadedSource]) -> DataError:
    """Return the error for an ensemble without a single image: the causes, and what there is instead."""
    total = sum(len(source.index.facts) for source in loaded.values())
    issues = [issue for source in loaded.values() for issue in source.issues]
    causes = Counter(one.cause for one in issues if (one.item, one.action) == ("image", "refused")).most_common(_SHOWN)
    words = ", ".join(_cause(cause, count, total) for cause, count in causes) or "there are none"
    lost = _unmatched(loaded) if any(cause == "no-label-file" for cause, _ in causes) else ""
    next_step = _NEXT.get(causes[0][0] if causes else "", "")
    return DataError(
        f"ensemble {ensemble}: 0 of {total} images can be used: {words}{lost}",
        next_step=next_step or "see what is in the files of its sources, or add a source to the recipe",
    )


def _cause(cause: str, count: int, total: int) -> str:
    if cause == "no-label-file":
        return "none has a label file" if count == total else f"{count} without a label file"
    return f"{cause}: {count}"


def _unmatched(loaded: Mapping[str, LoadedSource]) -> str:
    """Return the first label file that belongs to no image, and the image with the most similar name."""
    for source in loaded.values():
        files = list(dict.fromkeys(one.file for one in source.issues if _is_orphan(one)))
        if files:
            return f"; found {files[0]}{_meant(files[0], (facts.path for facts in source.index.facts))}"
    return ""


def _is_orphan(issue: Issue) -> bool:
    return issue.item == "box" and not issue.image


def _meant(file: str, images: Iterable[str]) -> str:
    stems = {like_stem(image): image for image in images}
    found = stems.get(closest(like_stem(file), stems))
    name = PurePosixPath(file).with_stem(PurePosixPath(found).stem) if found else ""
    return f", did you mean {name} for {found}?" if found else ""
