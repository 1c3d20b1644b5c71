"""Results in words: percents with intervals, who was scored, what a difference says, and the limits of a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.metrics import ENOUGH_FACES, ENOUGH_IMAGES
from facemask_train.eval.perturbations.shortcuts import MEASURABLE_FACES, MEASURABLE_IMAGES

if TYPE_CHECKING:
    from facemask_train.dataset.card import EnsembleCard

if TYPE_CHECKING:
    from facemask_train.eval.measures.paired_bootstrap import Difference

TOO_FEW = "too few to measure"
NOT_MEASURABLE = "not measurable"
NUMBERS = {"map50": "mAP 0.5", "map50_95": "mAP 0.5:0.95", "precision": "precision", "recall": "recall", "f1": "F1"}

REFERENCE_COLUMNS = ("model", "dataset", "images", "checkpoint", "training time")
PUBLISHED = {
    "who": ("YOLOv5s, as published (1)", "Face Masks v8", "27,000", "COCO, best epoch 44", "3.5 h on one V100"),
    "numbers": ("94", "53", "93", "89"),
}
ABOUT_PUBLISHED = (
    "In percent. (1) The reference project's own figures on its own test split. It rotated before it split, "
    "and its sources share images: they are optimistic, and measured on other images than the row above."
)
_UNITS = ((3600, 1, "h"), (60, 0, "min"), (1, 0, "s"))


def percent(value: float | None) -> str:
    """Return a share in percent without its sign, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def between(bounds: Sequence[float] | None) -> str:
    """Return an interval in percent: `93.1 to 98.8`, or nothing."""
    return "" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def with_interval(value: float | None, bounds: Sequence[float] | None) -> str:
    """Return a share with its interval: `96.9 (93.1 to 98.8)`."""
    return percent(value) + (f" ({between(bounds)})" if value is not None and bounds is not None else "")


def rate(one: Mapping[str, Any]) -> str:
    """Return an audit's rate with its interval, or that it cannot be measured."""
    return with_interval(one["rate"], one["interval"]) if one["measurable"] else NOT_MEASURABLE


def who(found: Mapping[str, Any], run: Mapping[str, Any], card: EnsembleCard) -> tuple[str, ...]:
    """Return model, dataset, images, checkpoint and training time. The images are those of the whole ensemble."""
    images = f"{card.splits.total:,}"
    if run["kind"] == "weights":
        return found["model"], found["ensemble"], images, run["weights"]["file"], "not known"
    start = str(run["settings"]["weights"]).replace("\\", "/").rpartition("/")[2]
    epochs = run.get("epochs")
    checkpoint = f"{start}, best of {epochs} epochs" if epochs else start
    return found["model"], found["ensemble"], images, checkpoint, _time(run)


_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}


def _time(run: Mapping[str, Any]) -> str:
    """Return the training time in the words of the published table: `3.5 h on one V100`."""
    seconds = run.get("seconds")
    if not seconds:
        return "not known"
    length = next((f"{seconds / unit:.{digits}f} {name}" for unit, digits, name in _UNITS if seconds >= unit), "< 1 s")
    count = run.get("chosen", {}).get("devices", {}).get("processes", 1)
    return f"{length} on " + ("a CPU" if run["device"] == "cpu" else f"{_COUNTS.get(count, count)} {run['device']}")


def scored(found: Mapping[str, Any]) -> list[str]:
    """Return what was scored and how, as sentences."""
    inputs, missed, point = found["inputs"], found["misses"], found["operating_point"]
    own = found["validator"]
    return [
        f"{found['images']} images with {found['boxes']} faces: the {found['split']} split of ensemble "
        f"{found['ensemble']} (`{inputs['ensemble']['hash'][:12]}`).",
        f"Weights `{inputs['weights'][:12]}`, images at {inputs['imgsz']} px, batch {inputs['batch']}; detections "
        f"from confidence {inputs['lowest_confidence']}, non-maximum suppression at IoU {inputs['suppression_iou']}.",
        "mAP is COCO's (what `pycocotools` gives on these detections). The validator of the `ultralytics` package "
        f"interpolates otherwise, and says {percent(own['map50'])} and {percent(own['map50_95'])}; training logs it.",
        f"Precision and recall are the validator's: at confidence {found['confidence']:.3f}, where the mean F1 of the "
        "classes is best on these same images. The means leave out a class without labelled faces.",
        f"The operating point, confidence {point['threshold']:.3f}, {_chosen(point['chosen'], found['split'])}. Above "
        f"it, matched at IoU {found['match_iou']} whatever the class: {missed['missed']} faces missed, "
        f"{missed['wrong class']} given the wrong class, {missed['false box']} boxes that answer no labelled face (a "
        "second box on a face is one).",
        f"Intervals are at 95 %, from {found['bootstrap']['resamples']:,} resamples of the images: faces of one "
        "image stay together. Images of one burst count as several, so with bursts the intervals are too narrow.",
    ]


def _chosen(by: str, split: str) -> str:
    if by == "user":
        return "was fixed by the user"
    if by == "default":
        return "is the `ultralytics` package's own: the ensemble has no val split to choose it on"
    return "has the best F1 on these very images" if split == "val" else "has the best F1 on the val split"


def limits(
    found: Mapping[str, Any], run: Mapping[str, Any], ensemble_hash: str, notes: Sequence[str] = ()
) -> list[str]:
    """Return what a reader has to know before trusting a number.

    Args:
        ensemble_hash, notes: of the ensemble that was scored.
    """
    said = []
    if found["images"] < ENOUGH_IMAGES:
        said.append(f"{TOO_FEW.capitalize()}: {found['images']} images; {ENOUGH_IMAGES} or more say something.")
    few = [name for name in CLASSES if found["per_class"][name]["n"] < ENOUGH_FACES]
    if few:
        counts = ", ".join(f"{found['per_class'][name]['n']} faces of {name}" for name in few)
        said.append(f"{TOO_FEW.capitalize()}: {counts}; with fewer than {ENOUGH_FACES} faces, one number says little.")
    if found["split"] == "train":
        said.append("These are images that models are trained on: the numbers say nothing of new ones.")
    if found["split"] == "val":
        said.append("The best epoch was chosen on a validation split: on it, numbers are a little too good.")
    if (run.get("ensemble") or {}).get("hash") != ensemble_hash:
        said.append(f"{_trained_on(run)}: images that the model was trained on may be among those scored.")
    audit = found.get("audit")
    if audit is None:
        said.append("It was not asked about edited faces (`fmask audit`), so nothing is known of shortcuts.")
    elif not audit["shortcut_rate"]["measurable"]:
        said.append(
            f"The shortcut rate is not measurable: {audit['shortcut_rate']['faces']} large enough faces, rightly named "
            f"when untouched; it takes {MEASURABLE_FACES} on {MEASURABLE_IMAGES} images."
        )
    return [*said, *notes]


def _trained_on(run: Mapping[str, Any]) -> str:
    ensemble = run.get("ensemble")
    if not ensemble:
        return "It is not known what these weights were trained on"
    return f"The run was trained on another ensemble, {ensemble['name']} (`{ensemble['hash'][:12]}`)"


def headline_of(audit: Mapping[str, Any]) -> str:
    """Return an audit in a sentence or two."""
    unseen, response = audit["shortcut_rate"], audit["response_rate"]
    kinds = ", ".join(sorted({one["kind"] for one in audit["kinds"] if not one["seen"] and not one["must_change"]}))
    if not unseen["measurable"]:
        return (
            f"Shortcut rate: not measurable here. {unseen['faces']} faces on {unseen['images']} images are large "
            f"enough and rightly named when untouched; it takes {MEASURABLE_FACES} on {MEASURABLE_IMAGES}."
        )
    text = (
        f"Of {unseen['n']:,} edits that must not change the answer and that fmask draws into no training image "
        f"({kinds}), on {unseen['faces']} faces, {rate(unseen)} % flipped it, and "
        f"{percent(unseen['lost'] / unseen['n'])} % lost the face."
    )
    if response["measurable"]:
        text += f" A mask put on a bare face changed the answer in {rate(response)} %."
    return text


def copies(found: Mapping[str, Any]) -> str:
    """Return the agreement of copies in a sentence."""
    overlap = f", with a mean overlap of {found['iou']:.2f}" if found["iou"] is not None else ""
    return (
        f"Agreement of copies: {found['pairs']:,} images were there twice, with {found['kept']:,} and "
        f"{found['copied']:,} boxes. Scored as if one label set were a detector: {found['matched']:,} match at IoU 0.5"
        f"{overlap}, {found['same']:,} of them with the same class (precision {percent(found['precision'])} %, recall "
        f"{percent(found['recall'])} %). The copies share an origin: this does not say how well two people agree."
    )


# ---- what a difference says ----


def points(value: float) -> str:
    """Return a difference in points of a percent, without its sign."""
    return f"{abs(100 * value):.1f}"


def of_checkpoints(first: str, second: str, found: Difference, metric: str, images: int, *, few: bool) -> str:
    """Say what a difference of two checkpoints on the same images means."""
    low, high = found.interval
    name = NUMBERS[metric]
    if low > 0 or high < 0:
        more = "more" if found.value > 0 else "less"
        bounds = sorted((abs(100 * low), abs(100 * high)))
        text = (
            f"This checkpoint ({second}) scores {points(found.value)} points {more} than {first}, 95 % interval "
            f"{bounds[0]:.1f} to {bounds[1]:.1f} ({name}, {images} images)."
        )
    else:
        text = (
            f"These {images} images do not tell the two checkpoints apart: {second} scores {100 * found.value:+.1f} "
            f"points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f} ({name}), against {first}."
        )
    warned = (
        f" {TOO_FEW.capitalize()}: {ENOUGH_IMAGES} images and {ENOUGH_FACES} faces of each class say something."
        if few
        else ""
    )
    return f"{text}{warned} Of two recipes it says nothing: that takes three seeds or more on each side."


def of_two_recipes(first: Sequence[str], second: Sequence[str], found: Difference, metric: str, images: int) -> str:
    """Say what a difference of two recipes' means over their seeds means."""
    low, high = found.interval
    sides = f"{len(second)} runs ({', '.join(second)}) against {len(first)} ({', '.join(first)})"
    if low > 0 or high < 0:
        more = "more" if found.value > 0 else "less"
        bounds = sorted((abs(100 * low), abs(100 * high)))
        said = f"The second recipe scores {points(found.value)} points {more}, 95 % interval {bounds[0]:.1f} to "
        return f"{said}{bounds[1]:.1f} ({NUMBERS[metric]}, {images} images, over seeds): {sides}."
    return (
        f"The two recipes are not told apart: {100 * found.value:+.1f} points, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f} ({NUMBERS[metric]}, {images} images, over seeds): {sides}."
    )
