"""`fmask evaluate --suspects`: a person decides about suspected label errors; the answers go into `fixes.yaml`."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facemask_train.apps.labeling.server import Questionnaire, serve
from facemask_train.core.config import FIXES
from facemask_train.core.contact_sheet import TileBox, square_window, tile_image
from facemask_train.core.drawing import DETECTED, LABELED, open_upright
from facemask_train.core.errors import UsageError
from facemask_train.core.fixes import LabelFix, read_fixes, rounded, write_fixes
from facemask_train.core.types import CLASSES, Corners
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage
from facemask_train.eval.measures.label_errors import LabelError
from facemask_train.report.labeling import Choice, Question

_SIDE = 640  # of a crop, in pixels
_TEXTS = {"mask": "a face with a mask", "no_mask": "a face without a mask"}


@dataclass(frozen=True, slots=True)
class Suspect:
    """A suspected label error of an image in an ensemble: what is asked, and the fix that each choice stands for."""

    image: EnsembleImage
    error: LabelError
    label: str
    fixes: Mapping[str, LabelFix]


def review(
    root: Path,
    contents: EnsembleContents,
    errors: Sequence[LabelError],
    *,
    fixes: Path | None = None,
    port: int = 0,
    on_start: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Path:
    """Serve a page that asks about each suspected error until Ctrl-C or `stop`; return the file with the answers.

    Errors of augmented copies are left out, since a fix is about the published image.

    Args:
        fixes: the `fixes.yaml`; that of the project's recipes if not given.

    Raises:
        UsageError: `fixes` has another name, under which `build-dataset` would not find it.
    """
    if fixes is not None and fixes.name != FIXES:
        raise UsageError(f"--fixes {fixes}: expected a file named {FIXES}", next_step=f"--fixes {fixes.parent / FIXES}")
    folder = fixes.parent if fixes is not None else root / "configs" / "ensembles"
    known = read_fixes(folder).labels
    found = suspects(contents, errors, known)
    answers = {number: key for number, one in enumerate(found) for key, fix in one.fixes.items() if fix in known}

    def save(number: int, key: str) -> None:
        now, one = read_fixes(folder), found[number]  # read again: a person may have edited the file meanwhile
        first = next(iter(one.fixes.values()))
        write_fixes(folder, now.with_label(one.fixes[key]) if key else now.without_label(first.image, first.box))

    asked = Questionnaire(
        title=f"Suspected labels of {contents.card.name}",
        lede=f"Each answer is saved at once in {FIXES}; build the ensemble again to apply them.",
        questions=[question(one) for one in found],
        image=lambda number: crop(contents.folder, found[number]),
        answers=answers,
        save=save,
    )
    serve(asked, port=port, on_start=on_start, stop=stop)
    return folder / FIXES


def suspects(contents: EnsembleContents, errors: Sequence[LabelError], known: Sequence[LabelFix] = ()) -> list[Suspect]:
    """Return the errors of original images with the fixes that a person can choose.

    Args:
        known: the fixes so far. One that the ensemble was built with is revised, since a fix is about the published
            label.
    """
    images = {one.image: one for one in contents.images if not one.copy}
    return [_suspect(images[one.image], one, known) for one in errors if one.image in images]


def _suspect(image: EnsembleImage, error: LabelError, known: Sequence[LabelFix]) -> Suspect:
    if error.label is None:
        assert error.detection is not None, "a suspicion is about a label or a detection"
        box = rounded(error.detection)
        fixes = {"k": LabelFix(image.sha256, "keep", box, error.name)}
        fixes |= {key: LabelFix(image.sha256, "add", box, name) for key, name in zip("mn", CLASSES, strict=True)}
        return Suspect(image, error, "", fixes)
    corners = error.label
    own = min(image.labels, key=lambda one: sum(abs(a - b) for a, b in zip(one.box.corners, corners, strict=True)))
    box, other = rounded(own.box.corners), next(name for name in CLASSES if name != own.name)
    keep, change = LabelFix(image.sha256, "keep", box, own.name), LabelFix(image.sha256, "class", box, other)
    for fix in known:
        if fix.changes and (fix.image, fix.to or fix.box, fix.name) == (image.sha256, box, own.name):
            keep, change = fix, replace(fix, name=other)
    fixes = {
        "k": keep,
        "m" if other == "mask" else "n": change,
        "x": LabelFix(image.sha256, "remove", keep.box, own.name),
    }
    if error.kind == "badly placed" and error.detection is not None and keep.action != "add":
        fixes["p"] = LabelFix(image.sha256, "move", keep.box, own.name, to=rounded(error.detection))
    return Suspect(image, error, own.name, fixes)


def question(one: Suspect) -> Question:
    """Return what is asked about a suspected error."""
    error = one.error
    if not one.label:
        text, detail = "Is this a face without a label?", f"The model detects {_TEXTS[error.name]} here."
    elif error.kind == "swapped":
        text, detail = f"Is this {_TEXTS[one.label]}?", f"The label says so; the model detects {_TEXTS[error.name]}."
    elif error.kind == "badly placed":
        text, detail = "Is this box in the right place?", "The model detects the face beside the label."
    else:
        text, detail = f"Is this {_TEXTS[one.label]}?", "The label says so; the model detects no face here."
    choices = tuple(Choice(key, _choice_text(key, fix, one.label)) for key, fix in one.fixes.items())
    return Question(text, f"{detail} {one.image.source}: {one.image.source_image}", "The face in question", choices)


def _choice_text(key: str, fix: LabelFix, label: str) -> str:
    match key:
        case "k":
            return "Keep the label: it is right" if label else "No: add no label"
        case "x":
            return "Not a face: remove the box"
        case "p":
            return "Move the box to the detection"
        case _:
            return f"{'No: it is' if label else 'Yes:'} {_TEXTS[fix.name]}"


def crop(folder: Path, one: Suspect) -> bytes:
    """Return the surroundings of a suspected error as a JPEG, with the box in question thick and the others thin."""
    pairs: list[tuple[Corners | None, str]] = [(one.error.label, LABELED), (one.error.detection, DETECTED)]
    own = [TileBox(corners, color, thick=True) for corners, color in pairs if corners is not None]
    others = [TileBox(label.box.corners, LABELED) for label in one.image.labels]
    with open_upright(folder / one.image.image) as image:
        window = square_window([box.corners for box in own], image.width, image.height)
        tile = tile_image(image, [*others, *own], size=(_SIDE, _SIDE), window=window)
    stream = io.BytesIO()
    tile.save(stream, "JPEG", quality=90)
    return stream.getvalue()
