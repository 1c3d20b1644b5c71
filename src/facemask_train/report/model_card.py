"""The model card for Hugging Face: Markdown below a yaml head. It also says what was not measured. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval.records.metrics import Metrics
from facemask_train.report import markdown, wording
from facemask_train.report.html import TEMPLATES, environment
from facemask_train.training.runs import RunRecord, duration

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TAGS = ("face-mask-detection", "object-detection", "yolov5", "public-health", "fmask")
_METRICS = {"map50": ("map", "mAP 0.5"), "map50_95": ("map", "mAP 0.5:0.95"), "precision": ("precision", "precision"),
            "recall": ("recall", "recall")}  # fmt: skip
_SPLIT_BY = {
    "group": "Images were split by group: near-duplicates, and images of the same scene, are in the same split.",
    "published": "The split is the published one; it was not checked that it keeps near-duplicates together.",
}


@dataclass(frozen=True, slots=True)
class CardContents:
    """What a model card says about a model.

    Attributes:
        run: its `run.json`.
        digest: the sha256 of its weights.
        imgsz: the image size that it runs at, in pixels.
        ensemble: the card of the ensemble that it was trained on; None if it is not available.
        sources: the `handle` and `license` of each source, by its name.
        evaluations: its evaluations.
        exports: rows of the table of files.
        machine, split: what the table was measured on.
    """

    run: RunRecord
    digest: str
    imgsz: int
    ensemble: EnsembleCard | None = None
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    evaluations: Sequence[Metrics] = ()
    exports: Sequence[Sequence[str]] = ()
    machine: str = ""
    split: str = ""

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def trained(self) -> bool:
        """Whether fmask trained it."""
        return self.run.kind == "training"

    @property
    def architecture(self) -> str:
        """Its name, such as YOLOv5s."""
        return self.evaluations[0].model if self.evaluations else "YOLO detector"


def model_card(contents: CardContents) -> str:
    """Return the card's Markdown."""
    return render(
        "modelcard.md",
        front=_head(contents),
        name=contents.name,
        architecture=contents.architecture,
        imgsz=contents.imgsz,
        digest=contents.digest,
        trained=contents.trained,
        run=contents.run,
        version=_version(contents.run),
        ensemble=contents.ensemble,
        sources=_sources(contents),
        splits=_splits(contents.ensemble),
        grouping=_SPLIT_BY[contents.ensemble.split_by] if contents.ensemble else "",
        drops_incorrect=_recipe(contents).get("worn_incorrectly") == "drop-image",
        evaluations=contents.evaluations,
        exports=contents.exports,
        machine=contents.machine,
        tested_on=contents.split,
        limitations=limitations(contents),
        classes=CLASSES,
        settings=_settings(contents.run),
        training=_training(contents.run),
        commands=commands(contents),
    )


def render(template: str, **values: object) -> str:
    """Fill a template of Markdown or Python; nothing is escaped."""
    filled = environment(TEMPLATES, escaped=False)
    filled.globals |= {"wording": wording, "markdown": markdown}
    return filled.get_template(template).render(**values)


def _head(contents: CardContents) -> str:
    """Return the yaml head, between its fences."""
    from huggingface_hub import ModelCardData

    results = [result for one in contents.evaluations for result in _results(one)]
    data = ModelCardData(
        language="en",
        license="agpl-3.0",
        library_name="ultralytics",
        pipeline_tag="object-detection",
        tags=list(TAGS),
        datasets=[one.get("handle") or name for name, one in contents.sources.items()] or None,
        metrics=["map", "precision", "recall"],
        model_name=contents.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _results(metrics: Metrics) -> list[EvalResult]:
    """Return the metrics of an evaluation, in percent with their intervals, for the head."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="object-detection",
            dataset_type=metrics.ensemble,
            dataset_name=f"fmask ensemble {metrics.ensemble}",
            dataset_split=metrics.split,
            dataset_revision=metrics.inputs.ensemble.hash,
            metric_type=kind,
            metric_name=label,
            metric_value=round(100 * getattr(metrics, key), 2),
            metric_args={"interval_95": [round(100 * bound, 2) for bound in metrics.intervals[key] or ()]},
        )
        for key, (kind, label) in _METRICS.items()
    ]


# ---- its sections ----


def limitations(contents: CardContents) -> list[str]:
    """Return what a reader has to know before trusting the model."""
    known = [
        f"{metrics.ensemble}, {metrics.split}: {line}"
        for metrics in contents.evaluations
        for line in wording.limitations(metrics, contents.run)
    ]
    fixed = [
        "Not measured: differences between people (age, sex, skin color, religious headwear), places and cameras. The "
        "sources do not say who is in their images, nor where or when most of them were taken.",
        "Not measured: performance on other kinds of images than those evaluated (surveillance, night, crowds).",
        "Kinds and colors of masks that the sources lack, and other things worn over nose and mouth, may get either "
        "class; see the shortcuts.",
        "Look at the slices by face size before counting small faces: detectors miss them most often.",
    ]
    return [*known, *fixed]


def _version(run: RunRecord) -> str:
    return f" {run.code.version}" if run.code else ""


def _recipe(contents: CardContents) -> Mapping[str, object]:
    return contents.ensemble.inputs.recipe if contents.ensemble else {}


def _sources(contents: CardContents) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, one in contents.ensemble.sources.items() if contents.ensemble else ():
        known = contents.sources.get(name, {})
        faces = sum(boxes.kept for boxes in one.boxes.values())
        published = known.get("handle") or "-", known.get("license") or "not stated"
        rows.append((name, *published, f"{one.images.kept:,}", f"{faces:,}"))
    return rows


def _splits(ensemble: EnsembleCard | None) -> list[tuple[str, ...]]:
    if ensemble is None:
        return []
    return [
        (split, f"{ensemble.splits[split]:,}", *(f"{ensemble.faces[split][name]:,}" for name in CLASSES))
        for split in SPLITS
    ]


def _settings(run: RunRecord) -> list[tuple[str, str]]:
    settings: dict[str, object] = {}
    if run.settings is not None:
        settings = run.settings.model_dump(mode="json", exclude={"extra"}, exclude_unset=True) | run.settings.extra
    elif run.weights is not None:
        settings = {"weights": run.weights.file, "imgsz": run.weights.imgsz}
    return [(key, str(_bare(key, value))) for key, value in settings.items() if value != ""]


def _bare(key: str, value: object) -> object:
    """Return a setting; of a checkpoint's path only the file name, since folders are private."""
    return str(value).replace("\\", "/").rpartition("/")[2] if key == "weights" else value


def _training(run: RunRecord) -> str:
    """Return how long training took, and with which packages, in a sentence."""
    took = f"{run.epochs} epochs in {duration(run.seconds)}" if run.seconds else "Training time unknown"
    packages = ", ".join(f"{name} {version}" for name, version in run.packages.items())
    return f"{took}, on {run.device or 'an unknown device'}. Packages: {packages or 'unknown'}."


def commands(contents: CardContents) -> list[str]:
    """Return the commands that reproduce the model."""
    if not contents.trained or contents.run.ensemble is None or contents.run.settings is None:
        return ["# unknown: fmask did not train these weights"]
    name = contents.run.ensemble.name
    settings = contents.run.settings.model_dump(mode="json", exclude_unset=True)
    extra = settings.pop("extra", None) or {}
    named = ("weights", "epochs", "imgsz", "batch", "seed", "device")
    options = [
        f"--{key} {shlex.quote(str(_bare(key, settings[key])))}" for key in named if settings.get(key) not in (None, "")
    ]
    sets = {key: value for key, value in settings.items() if key not in named} | extra
    options += [f"--set {shlex.quote(f'{key}={value}')}" for key, value in sets.items()]
    fetch = [shlex.join(["fmask", "fetch", *contents.sources])] if contents.sources else []
    return [
        *fetch,
        f"fmask build-dataset --version {shlex.quote(name)}",
        f"fmask train --name {shlex.quote(contents.name)} --data {shlex.quote(name)} {' '.join(options)}",
        *(
            f"fmask evaluate {shlex.quote(contents.name)} --data {shlex.quote(one.ensemble)} --split {one.split}"
            for one in contents.evaluations
        ),
        f"fmask export --run {shlex.quote(contents.name)}",
    ]
