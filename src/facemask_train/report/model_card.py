"""A model card as Hugging Face has them: a page of Markdown under a yaml head. Says what was not measured. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.dataset.card import EnsembleCard
from facemask_train.report import markdown, wording
from facemask_train.report.html import environment
from facemask_train.train.runs import duration

TEMPLATES = Path(__file__).parent / "templates"
TAGS = ("face-mask-detection", "object-detection", "yolov5", "public-health", "fmask")
_METRICS = {"map50": ("map", "mAP 0.5"), "map50_95": ("map", "mAP 0.5:0.95"), "precision": ("precision", "precision"),
            "recall": ("recall", "recall")}  # fmt: skip
_SPLIT_BY = {
    "group": "Images were split by group: copies and near-copies of one image, and images of one scene, are in "
    "one split.",
    "published": "The split is the one that was published; it was not checked that it keeps copies together.",
}


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a model.

    Attributes:
        run: its `run.json`.
        digest: the sha256 of its weights.
        imgsz: the image size it is asked at, in pixels.
        ensemble: the card of the ensemble it was trained on, None if that is no longer there.
        sources: by name, what is known of each source: `handle` and `license`.
        evaluations: every `metrics.json` of it.
        exports: rows of the table of files.
        machine, exam: what the table was measured on.
    """

    run: Mapping[str, Any]
    digest: str
    imgsz: int
    ensemble: EnsembleCard | None = None
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    evaluations: Sequence[Mapping[str, Any]] = ()
    exports: Sequence[Sequence[str]] = ()
    machine: str = ""
    exam: str = ""

    @property
    def name(self) -> str:
        return str(self.run["name"])

    @property
    def trained(self) -> bool:
        """Whether fmask trained it, and knows how."""
        return bool(self.run["kind"] == "training")

    @property
    def architecture(self) -> str:
        """What it is called: YOLOv5s."""
        known = [str(one["model"]) for one in self.evaluations]
        return known[0] if known else "YOLO detector"


def model_card(story: Story) -> str:
    """Return the card's Markdown."""
    return render(
        "modelcard.md",
        front=_head(story),
        name=story.name,
        architecture=story.architecture,
        imgsz=story.imgsz,
        digest=story.digest,
        trained=story.trained,
        run=story.run,
        version=_version(story.run),
        ensemble=story.ensemble,
        sources=_sources(story),
        splits=_splits(story.ensemble),
        grouping=_SPLIT_BY[story.ensemble.split_by] if story.ensemble else "",
        drops_incorrect=_recipe(story).get("worn_incorrectly") == "drop-image",
        evaluations=story.evaluations,
        exports=story.exports,
        machine=story.machine,
        exam=story.exam,
        limits=limits(story),
        settings=_settings(story.run),
        training=_training(story.run),
        commands=commands(story),
    )


def render(template: str, **values: Any) -> str:
    """Fill one of this folder's templates of Markdown or Python; nothing is escaped."""
    filled = environment(TEMPLATES, escaped=False)
    filled.globals |= {"words": wording, "markdown": markdown}
    return filled.get_template(template).render(**values)


def _head(story: Story) -> str:
    """Return the yaml head, between its fences."""
    from huggingface_hub import ModelCardData

    results = [result for one in story.evaluations for result in _results(one)]
    data = ModelCardData(
        language="en",
        license="agpl-3.0",
        library_name="ultralytics",
        pipeline_tag="object-detection",
        tags=list(TAGS),
        datasets=[one.get("handle") or name for name, one in story.sources.items()] or None,
        metrics=["map", "precision", "recall"],
        model_name=story.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _results(found: Mapping[str, Any]) -> list[Any]:
    """Return an evaluation's numbers, in percent with their intervals, as the head has them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="object-detection",
            dataset_type=found["ensemble"],
            dataset_name=f"fmask ensemble {found['ensemble']}",
            dataset_split=found["split"],
            dataset_revision=found["inputs"]["ensemble"]["hash"],
            metric_type=kind,
            metric_name=label,
            metric_value=round(100 * found[key], 2),
            metric_args={"interval_95": [round(100 * bound, 2) for bound in found["intervals"][key] or ()]},
        )
        for key, (kind, label) in _METRICS.items()
        if found[key] is not None
    ]


# ---- what it says ----


def limits(story: Story) -> list[str]:
    """Return what has to be known before the model is believed."""
    known = [
        f"{found['ensemble']}, {found['split']}: {line}"
        for found in story.evaluations
        for line in wording.limits(found, story.run, found["inputs"]["ensemble"]["hash"])
    ]
    fixed = [
        "Not measured: differences between people (age, sex, skin, headwear of a faith), places and cameras. The "
        "sources say nothing of who is on their images, nor where or when most were taken.",
        "Not measured: how it does on images of another kind than those scored (surveillance, night, crowds).",
        "Masks of a kind or colour that the sources do not have, and other things worn over nose and mouth, may be "
        "named either way; see the shortcuts.",
        "Look at the slices by face size before counting small faces: they are the ones that detectors miss.",
    ]
    return [*known, *fixed]


def _version(run: Mapping[str, Any]) -> str:
    version = (run.get("code") or {}).get("version")
    return f" {version}" if version else ""


def _recipe(story: Story) -> Mapping[str, object]:
    return story.ensemble.inputs.recipe if story.ensemble else {}


def _sources(story: Story) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, one in story.ensemble.sources.items() if story.ensemble else ():
        known = story.sources.get(name, {})
        faces = sum(boxes.kept for boxes in one.boxes.values())
        who = known.get("handle") or "-", known.get("license") or "not stated"
        rows.append((name, *who, f"{one.images.kept:,}", f"{faces:,}"))
    return rows


def _splits(ensemble: EnsembleCard | None) -> list[tuple[str, ...]]:
    if ensemble is None:
        return []
    return [
        (split, f"{ensemble.splits[split]:,}", *(f"{ensemble.faces[split][name]:,}" for name in CLASSES))
        for split in SPLITS
    ]


def _settings(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings = {key: value for key, value in run["settings"].items() if key != "extra"}
    settings |= run["settings"].get("extra") or {}
    return [(key, str(_bare(key, value))) for key, value in settings.items() if value != ""]


def _bare(key: str, value: Any) -> Any:
    """Return a setting; of a checkpoint's path its name alone: where it lay is nobody's business."""
    return str(value).replace("\\", "/").rpartition("/")[2] if key == "weights" else value


def _training(run: Mapping[str, Any]) -> str:
    """Return in a sentence what training took, and with which packages."""
    took = f"{run.get('epochs', '?')} epochs in {duration(run['seconds'])}" if run.get("seconds") else "Time not known"
    packages = ", ".join(f"{name} {version}" for name, version in (run.get("packages") or {}).items())
    return f"{took}, on {run.get('device') or 'a device that is not known'}. Packages: {packages or 'not known'}."


def commands(story: Story) -> list[str]:
    """Return the commands that make the model again."""
    if not story.trained:
        return ["# not known: fmask did not train these weights"]
    name, settings = str(story.run["ensemble"]["name"]), dict(story.run["settings"])
    extra = settings.pop("extra", None) or {}
    named = ("weights", "epochs", "imgsz", "batch", "seed", "device")
    options = [
        f"--{key} {shlex.quote(str(_bare(key, settings[key])))}" for key in named if settings.get(key) not in (None, "")
    ]
    sets = {key: value for key, value in settings.items() if key not in named} | extra
    options += [f"--set {shlex.quote(f'{key}={value}')}" for key, value in sets.items()]
    fetch = [shlex.join(["fmask", "fetch", *story.sources])] if story.sources else []
    return [
        *fetch,
        f"fmask build-dataset --version {shlex.quote(name)}",
        f"fmask train --name {shlex.quote(story.name)} --data {shlex.quote(name)} {' '.join(options)}",
        *(
            f"fmask evaluate {shlex.quote(story.name)} --data {shlex.quote(one['ensemble'])} --split {one['split']}"
            for one in story.evaluations
        ),
        f"fmask export --run {shlex.quote(story.name)}",
    ]
