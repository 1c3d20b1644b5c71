"""Results in words: percentages with intervals, what was evaluated, verdicts on differences, and limitations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from facemask_train.core.boxes import lopsided_sentence
from facemask_train.eval.measures.bootstrap import Estimate, Interval
from facemask_train.eval.measures.metrics import ENOUGH_FACES, ENOUGH_GROUPS
from facemask_train.eval.perturbations.rates import MEASURABLE_FACES, MEASURABLE_GROUPS, ExcessRate
from facemask_train.eval.records.audit import Audit, PerturbationRate, ThresholdSource
from facemask_train.eval.records.metrics import CellMetrics, Metrics
from facemask_train.training.runs import RunRecord

if TYPE_CHECKING:
    from facemask_train.dataset.card import EnsembleCard
    from facemask_train.eval.measures.label_agreement import LabelAgreement
    from facemask_train.eval.measures.paired_bootstrap import Difference

TOO_FEW = "too few to measure"
NOT_MEASURABLE = "not measurable"
METRIC_LABELS = {
    "map50": "mAP 0.5",
    "map50_95": "mAP 0.5:0.95",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}

REFERENCE_COLUMNS = ("model", "dataset", "images", "checkpoint", "training time")
REFERENCE_METRICS = ("map50", "map50_95", "precision", "recall")
PUBLISHED = {
    "model": ("YOLOv5s, as published (1)", "Face Masks v8", "27,000", "COCO, best epoch 44", "3.5 h on one V100"),
    "numbers": ("94", "53", "93", "89"),
}
ABOUT_PUBLISHED = (
    "In percent. (1) The reference project's own numbers on its own test split. It rotated images before splitting "
    "them, and its sources share images, so the numbers are optimistic. They are also from other images than the row "
    "above."
)
_UNITS = ((3600, 1, "h"), (60, 0, "min"), (1, 0, "s"))
_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}


def percent(value: float | None) -> str:
    """Return a number from 0 to 1 in percent without the sign, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def between(interval: Interval | None) -> str:
    """Return an interval in percent: `93.1 to 98.8`, or nothing."""
    return "" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def with_interval(estimate: Estimate) -> str:
    """Return a number with its interval: `96.9 (93.1 to 98.8)`."""
    if estimate.value is None or estimate.interval is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} ({between(estimate.interval)})"


def format_rate(value: float | None, interval: Interval | None) -> str:
    """Return a rate of an audit with its interval, or that it is not measurable."""
    return NOT_MEASURABLE if value is None else with_interval(Estimate(value, interval))


def format_excess(rate: ExcessRate) -> str:
    """Return an excess over the controls in points with its interval, or that it is not measurable."""
    if rate.excess is None or rate.excess_interval is None:
        return NOT_MEASURABLE
    low, high = rate.excess_interval
    return f"{signed(rate.excess)} ({signed(low)} to {signed(high)})"


# ---- what was evaluated ----


def reference_row(metrics: Metrics, run: RunRecord, card: EnsembleCard) -> tuple[str, ...]:
    """Return the cells of `REFERENCE_COLUMNS`. The images are those of the whole ensemble."""
    images = f"{card.splits.total:,}"
    if run.weights is not None:
        return metrics.model, metrics.ensemble, images, run.weights.file, "unknown"
    checkpoint = f"{run.initial_weights}, best of {run.epochs} epochs" if run.epochs else run.initial_weights
    return metrics.model, metrics.ensemble, images, checkpoint, _training_time(run)


def _training_time(run: RunRecord) -> str:
    """Return the training time in the form of the published table: `3.5 h on one V100`."""
    seconds = run.seconds
    if not seconds:
        return "unknown"
    length = next((f"{seconds / unit:.{digits}f} {name}" for unit, digits, name in _UNITS if seconds >= unit), "< 1 s")
    count = run.process_count
    return f"{length} on " + ("a CPU" if run.device == "cpu" else f"{_COUNTS.get(count, count)} {run.device}")


def method(metrics: Metrics) -> list[str]:
    """Return what was evaluated and how, as sentences in Markdown."""
    inputs, errors, point, validator = metrics.inputs, metrics.errors, metrics.operating_point, metrics.validator
    return [
        f"{metrics.images} images with {metrics.boxes} faces: the {metrics.split} split of ensemble "
        f"{metrics.ensemble} (`{inputs.ensemble.hash[:12]}`).",
        f"Weights `{inputs.weights[:12]}`, images at {inputs.imgsz} px, batch size {inputs.batch}; detections above "
        f"confidence {inputs.lowest_confidence}, non-maximum suppression at IoU {inputs.suppression_iou}.",
        "mAP is COCO's: what `pycocotools` computes from these detections. The validator of the `ultralytics` package "
        f"matches boxes the same way but integrates the curve differently: {percent(validator.map50)} and "
        f"{percent(validator.map50_95)}. These are the numbers that training logs.",
        f"Precision and recall are the validator's, at confidence {metrics.best_f1_confidence:.3f}, where the mean F1 "
        "of the classes is best on these same images. The means leave out a class without labeled faces.",
        f"The operating point, confidence {point.threshold:.3f}, {_chosen(point.chosen, metrics.split)}. Above it, "
        f"matched at IoU {metrics.match_iou} regardless of class: {errors['missed']} faces missed, "
        f"{errors['wrong class']} with the wrong class, {errors['false positive']} false positives (a second box on "
        "a face is one).",
        f"Intervals are at 95 %, from {metrics.bootstrap.resamples:,} bootstrap resamples of the {metrics.scenes} "
        "scene groups, so the images of a burst stay together. The operating point stays fixed in them.",
    ]


def _chosen(by: ThresholdSource, split: str) -> str:
    if by == "user":
        return "was set by the user"
    if by == "default":
        return "is the default of the `ultralytics` package: the ensemble has no val split to choose it on"
    return "has the best F1 on these same images" if split == "val" else "has the best F1 on the val split"


def limitations(metrics: Metrics, run: RunRecord, notes: Sequence[str] = ()) -> list[str]:
    """Return what a reader has to know before trusting the numbers.

    Args:
        notes: of the ensemble that was evaluated.
    """
    lines = [*_small_sample(metrics), *unmeasured(metrics), *_optimistic_splits(metrics)]
    if run.ensemble is None or run.ensemble.hash != metrics.inputs.ensemble.hash:
        lines.append(f"{_trained_on(run)}, so images that the model was trained on may be among the evaluated ones.")
    lines += _audit_limitations(metrics.audit)
    return [*lines, *notes]


def _small_sample(metrics: Metrics) -> list[str]:
    lines = []
    if metrics.scenes < ENOUGH_GROUPS:
        lines.append(
            f"{TOO_FEW.capitalize()}: {metrics.scenes} scenes ({metrics.images} images); use {ENOUGH_GROUPS} or more."
        )
    few = [(name, row.n) for name, row in metrics.per_class.items() if row.n < ENOUGH_FACES]
    if few:
        counts = ", ".join(f"{n} faces of {name}" for name, n in few)
        lines.append(f"{TOO_FEW.capitalize()}: {counts}; with fewer than {ENOUGH_FACES}, a number says little.")
    return lines


def unmeasured(metrics: Metrics) -> list[str]:
    """Return what the test set does not contain, and where training favors one class, as sentences."""
    lines, missing = [], [one for one in metrics.pooled_cells if not one.n]
    by_class = {name: [one.size for one in missing if one.name == name] for name in metrics.classes}
    if missing:
        each = "; ".join(f"{name} at {', '.join(sizes)}" for name, sizes in by_class.items() if sizes)
        lines.append(f"Not measured, because {metrics.split} has no such faces: {each} of the image's longer side.")
    counts = {
        name: {one.size: one.train for one in metrics.pooled_cells if one.name == name and one.train is not None}
        for name in metrics.classes
    }
    if all(counts.values()):
        lines += filter(None, [lopsided_sentence(counts)])
    return lines


def _optimistic_splits(metrics: Metrics) -> list[str]:
    if metrics.split == "train":
        return ["These are training images: the numbers say nothing about new images."]
    if metrics.split == "val":
        return ["The best epoch was chosen on a validation split: numbers on it are a little too good."]
    return []


def _trained_on(run: RunRecord) -> str:
    if run.ensemble is None:
        return "It is unknown what these weights were trained on"
    return f"The run was trained on another ensemble, {run.ensemble.name} (`{run.ensemble.hash[:12]}`)"


def _audit_limitations(audit: Audit | None) -> list[str]:
    if audit is None:
        return ["The model was not audited (`fmask audit`), so it is unknown whether it takes shortcuts."]
    lines = [] if audit.bare.measurable else [_not_measurable(audit)]
    if audit.training_edits is None:
        lines.append(
            "It is unknown which edits of faces these weights were trained on, so the audit's headline leaves out "
            "every perturbation that fmask's augmentations resemble."
        )
    return lines


def _not_measurable(audit: Audit) -> str:
    name, right, large = audit.headline, audit.faces.right[audit.headline], audit.faces.large[audit.headline]
    return (
        f"Whether {name} faces are flipped or lost is not measurable here: of {large} that are large enough, {right} "
        f"are detected with the right class when untouched; it needs {MEASURABLE_FACES} in {MEASURABLE_GROUPS} scenes."
    )


ABOUT_AUDIT = (
    "Failed is the share of faces that were flipped or lost; where the class must change, the share that was flipped. "
    "The control is the same change beside the face, or, where there is no room, the image re-encoded and shifted by a "
    "pixel. The excess is in percentage points."
)


def perturbation_rule(one: PerturbationRate) -> str:
    """Return whether a perturbation must change the class, whether training showed it, and why it is not counted."""
    if one.must_change:
        return "yes"
    if one.doubt:
        return f"not counted: {one.doubt}"
    return "no; training may show it" if one.seen else "no"


def audit_summary(audit: Audit) -> str:
    """Return the result of an audit in a few sentences; the headline comes first."""
    bare, name = audit.bare, audit.headline
    if not bare.measurable:
        return _not_measurable(audit)
    found = audit.found[name]
    text = (
        f"Of {bare.faces} {name} faces that were right before, {format_rate(bare.rate, bare.interval)} % were flipped "
        "or lost by at least one change that must not matter and that training never showed, "
        f"{format_rate(bare.control, bare.control_interval)} % by at least one control: an excess of "
        f"{format_excess(bare)} points. Right before were {format_rate(found.value, found.interval)} % of the large "
        f"{name} faces."
    )
    named = [one for one in audit.perturbations if one.name == name and one.named]
    if named:
        each = "; ".join(f"{one.perturbation} {format_excess(one)}" for one in named)
        text += f" Beyond chance, in points over the controls: {each}."
    if audit.response.measurable:
        response = format_rate(audit.response.value, audit.response.interval)
        text += f" A mask put on a bare face changed the class in {response} % of cases."
    return text


NOT_MEASURED = "not measured"
ABOUT_CELLS = (
    "In percent, with 95 % intervals: the share of labeled faces that are found with the right class at the operating "
    "point. The size is the longer side of the face over that of the image."
)


def cell_text(one: CellMetrics) -> str:
    """Return the share of a cell that is right with its interval and n: `91.2 (80.1 to 96.4), n = 57`."""
    if not one.n:
        return NOT_MEASURED
    flag = ", too few" if one.too_few else ""
    return f"{with_interval(Estimate(one.right, one.interval))}, n = {one.n:,}{flag}"


def agreement_summary(found: LabelAgreement) -> str:
    """Return the label agreement in a few sentences."""
    overlap = f", with a mean IoU of {found.iou:.2f}" if found.iou is not None else ""
    return (
        f"Label agreement: {found.pairs:,} images were labeled twice, with {found.kept_boxes:,} and "
        f"{found.duplicate_boxes:,} boxes. Scored as if one set of labels were detections, {found.matched:,} match at "
        f"IoU 0.5{overlap}, {found.same_class:,} of them with the same class (precision {percent(found.precision)} %, "
        f"recall {percent(found.recall)} %). The sources share an origin, so this does not show how well two "
        "annotators would agree."
    )


# ---- differences ----


def signed(value: float) -> str:
    """Return a difference in percentage points with its sign."""
    return f"{100 * value:+.1f}"


def difference_with_interval(one: Difference) -> str:
    """Return a difference in percentage points with its interval: `+1.2 (-0.3 to +2.7)`."""
    return f"{signed(one.difference)} ({signed(one.interval[0])} to {signed(one.interval[1])})"


def checkpoint_verdict(
    first: str,
    second: str,
    difference: Difference,
    metric: str,
    images: int,
    *,
    too_few: bool,
    detectable: float | None = None,
) -> str:
    """Return in words what the difference of two checkpoints on the same images means.

    Args:
        detectable: how large a difference has to be to be found on such a test set 4 times in 5.
    """
    low, high = difference.interval
    label = METRIC_LABELS[metric]
    if low > 0 or high < 0:
        text = f"This checkpoint ({second}) scores {_points(difference, first)} ({label}, {images} images)."
    else:
        text = (
            f"The two checkpoints cannot be told apart on these {images} images: {second} scores "
            f"{signed(difference.difference)} points against {first}, 95 % interval {signed(low)} to {signed(high)} "
            f"({label})."
        )
    if detectable is not None and detectable > 0:
        text += f" This test set shows a difference of {100 * detectable:.1f} points or more 4 times in 5."
    if too_few:
        text += f" {TOO_FEW.capitalize()}: use {ENOUGH_GROUPS} scenes and {ENOUGH_FACES} faces of each class or more."
    return f"{text} To compare two recipes, train three or more seeds of each."


def recipe_verdict(
    first: Sequence[str], second: Sequence[str], difference: Difference, metric: str, images: int
) -> str:
    """Return in words what the difference of the means of two recipes over their seeds means."""
    low, high = difference.interval
    sides = f"{len(second)} runs ({', '.join(second)}) against {len(first)} ({', '.join(first)})"
    basis = f"({METRIC_LABELS[metric]}, {images} images, over seeds): {sides}."
    if low > 0 or high < 0:
        return f"The second recipe scores {_points(difference, 'the first')} {basis}"
    return (
        f"The two recipes cannot be told apart: {signed(difference.difference)} points, 95 % interval {signed(low)} "
        f"to {signed(high)} {basis}"
    )


def _points(difference: Difference, other: str) -> str:
    """Return `3.1 points more than OTHER, 95 % interval 1.2 to 5.0`."""
    more = "more" if difference.difference > 0 else "less"
    low, high = sorted(abs(100 * end) for end in difference.interval)
    return f"{abs(100 * difference.difference):.1f} points {more} than {other}, 95 % interval {low:.1f} to {high:.1f}"
