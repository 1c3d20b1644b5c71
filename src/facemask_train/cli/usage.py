"""The commands that use a model: predict, survey, demo, export. Each prints what one function returned."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from facemask_train.cli.console import Terminal, command
from facemask_train.cli.options import (
    DEFAULT_ROOT,
    DEVICE,
    INPUT,
    MODEL,
    OUTPUT,
    AnyModel,
    Device,
    MaxPixels,
    Out,
    Root,
    Run,
    RunAlias,
    RunName,
    Size,
    Sources,
    SplitName,
    Weights,
    one_of,
    option,
)  # fmt: skip
from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.apps.demo.server import Site
    from facemask_train.apps.export.export import ExportResult
    from facemask_train.apps.export.space import SpaceResult
    from facemask_train.apps.predict import PredictResult
    from facemask_train.apps.records.predictions import UnreadableFile


class SaveFormat(StrEnum):
    """What `predict` writes; an enumeration, because Typer does not support lists of literals."""

    IMAGES, YOLO, COCO, CSV = "images", "yolo", "coco", "csv"


class ExportFormat(StrEnum):
    """What `export` writes."""

    ONNX, OPENVINO, SPACE = "onnx", "openvino", "space"


Confidence = Annotated[
    float | None,
    option(
        group=MODEL,
        metavar="NUMBER",
        min=0,
        max=1,
        help="Confidence threshold.",
        show_default="the one that evaluate chose on val, or 0.25",
    ),
]
MinConfidence = Annotated[
    float | None,
    option(
        group=MODEL,
        metavar="NUMBER",
        min=0.01,
        max=1,
        help="Confidence threshold.",
        show_default="the one that evaluate chose on val, or 0.25",
    ),
]

NOTES = 10  # problems that are listed individually


@command
def predict(
    term: Terminal,
    sources: Sources,
    frame_interval: Annotated[
        float | None,
        option(
            group=INPUT,
            metavar="SECONDS",
            min=0.001,
            help="Time between the video frames to process.",
            show_default="every frame",
        ),
    ] = None,
    max_pixels: MaxPixels = 100,
    run: Run = None,
    weights: AnyModel = None,
    imgsz: Size = None,
    confidence: Confidence = None,
    save: Annotated[
        list[SaveFormat] | None,
        option(
            group=OUTPUT,
            metavar="[images|yolo|coco|csv]",
            help="What to write. Repeatable.",
            show_default="images and csv",
        ),
    ] = None,
    anonymize: Annotated[
        bool,
        option(
            "--anonymize",
            group=OUTPUT,
            help="Make every detected face unrecognizable in the output, including low-confidence ones.",
        ),
    ] = False,
    out: Out = None,
    batch: Annotated[
        int | None,
        option(
            group=DEVICE, metavar="INTEGER", min=1, help="Images in a batch.", show_default="1 on a CPU, 16 on a GPU"
        ),
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"],
        option(group=DEVICE, help="Numerical precision; bfloat16 is faster on some processors, but less exact."),
    ] = "float32",
    device: Device = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Find faces with and without masks in images and videos.

    Writes images with boxes drawn, and YOLO, COCO or CSV files.
    """
    from facemask_train.apps import predict as stage

    done = stage.predict(
        root,
        sources,
        run=run,
        weights=weights,
        imgsz=imgsz,
        confidence=confidence,
        device=device or "",
        precision=precision,
        batch=batch,
        out=out,
        options=stage.PredictOptions(
            tuple(map(str, save or stage.DEFAULT_SAVE)), anonymize, frame_interval, max_pixels * 10**6
        ),
        progress=term.progress,
    )
    term.result(_predict_json(done), *_predict_lines(done))


@command
def demo(
    term: Terminal,
    run: RunName = None,
    run_alias: RunAlias = None,
    weights: AnyModel = None,
    imgsz: Size = None,
    confidence: MinConfidence = None,
    host: Annotated[
        str,
        option(group=OUTPUT, metavar="ADDRESS", help="Address to listen on; 0.0.0.0 opens the page to other machines."),
    ] = "127.0.0.1",
    port: Annotated[
        int, option(group=OUTPUT, metavar="INTEGER", min=0, max=65535, help="Port to listen on; 0 takes any free one.")
    ] = 7860,
    allow_host: Annotated[
        list[str] | None,
        option(
            group=OUTPUT,
            metavar="NAME",
            help="A host name under which the page may be opened. Repeatable.",
            show_default="localhost and addresses only",
        ),
    ] = None,
    max_mb: Annotated[int, option(group=INPUT, metavar="INTEGER", min=1, help="Largest upload, in megabytes.")] = 10,
    max_pixels: Annotated[
        int, option(group=INPUT, metavar="INTEGER", min=1, help="Largest image, in megapixels.")
    ] = 40,
    max_seconds: Annotated[
        int, option(group=INPUT, metavar="INTEGER", min=1, help="How many seconds of a video are processed.")
    ] = 60,
    device: Device = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Serve a web page that counts faces with and without masks, until Ctrl-C.

    It takes images, videos and a webcam.
    """
    from facemask_train.apps.demo import server as stage
    from facemask_train.apps.demo.uploads import Limits

    stage.serve(
        root,
        run=one_of(run, run_alias, "--run"),
        weights=weights,
        imgsz=imgsz,
        confidence=confidence,
        device=device or "",
        host=host,
        port=port,
        allow_hosts=allow_host or (),
        limits=Limits(max_mb, max_pixels, max_seconds),
        on_start=lambda site: term.result(_demo_json(site), *_demo_lines(site)),
    )


@command
def export(
    term: Terminal,
    run: RunName = None,
    run_alias: RunAlias = None,
    weights: Weights = None,
    imgsz: Size = None,
    data: Annotated[
        str | None,
        option(group=INPUT, metavar="TEXT", help="Ensemble to check the export on.", show_default="the run's own"),
    ] = None,
    split: Annotated[
        SplitName | None,
        option(group=INPUT, help="Split to check the export on.", show_default="test, or val if test has no face"),
    ] = None,
    formats: Annotated[
        list[ExportFormat] | None,
        option(
            "--format",
            group=OUTPUT,
            metavar="[onnx|openvino|space]",
            help="What to write. Repeatable.",
            show_default="onnx and openvino",
        ),
    ] = None,
    nms: Annotated[
        Literal["inside", "outside"],
        option(group=OUTPUT, help="Whether non-maximum suppression is inside the file, or left to its user."),
    ] = "inside",
    target: Out = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Export a model as ONNX and OpenVINO, or as a ready Hugging Face Space.

    Each export is checked against PyTorch, and gets a model card.
    """
    from facemask_train.apps.export import export as stage
    from facemask_train.apps.export import space

    models, wants_space = stage.parse_formats(list(map(str, formats or stage.FORMATS)), target, nms)
    options: dict[str, Any] = {
        "run": one_of(run, run_alias, "--run"),
        "weights": weights,
        "imgsz": imgsz,
        "data": data,
        "split": split,
        "progress": term.progress,
    }
    made = None if not models else stage.export(root, formats=models, target=target, nms=nms == "inside", **options)
    ready = space.write(root, target=target, **options) if wants_space else None
    term.result(
        _export_json(made) | _space_json(ready),
        *([] if made is None else _export_lines(made)),
        *([] if ready is None else _space_lines(ready)),
    )


# ---- results as JSON (an interface) and as lines ----


def _predict_json(done: PredictResult) -> dict[str, object]:
    record = done.record.to_json()
    del record["files"]
    head = {"confidence": done.record.inputs.confidence, "path": str(done.folder), "up_to_date": done.up_to_date}
    return {key: value for key, value in record.items() if key != "inputs"} | head


def _predict_lines(done: PredictResult) -> list[Any]:
    from facemask_train.eval.thresholds import Threshold

    record, inputs = done.record, done.record.inputs
    point = Threshold(inputs.confidence, record.confidence_chosen)
    counts = {"images": record.images, "videos": record.videos, "frames": record.frames, **record.faces_by_class}
    title = f"{record.model} ({inputs.backend}, {inputs.imgsz} px), confidence {inputs.confidence:.3f}"
    shown = table("", tuple(name.replace("_", " ") for name in counts), [tuple(f"{n:,}" for n in counts.values())])
    missed = ["faces that the model does not find are not covered: check each image before you publish it"]
    state = " (up to date)" if done.up_to_date else ""
    return [
        title,
        shown,
        f"confidence: {point.why}",
        *(missed if inputs.anonymize else []),
        *problem_lines(record.problems, record.FILE),
        f"written{state}: {done.folder}",
    ]


def problem_lines(problems: Sequence[UnreadableFile], file: str) -> list[str]:
    lines = [plain_text(f"not read: {one.file}: {one.reason}") for one in problems[:NOTES]]
    more = len(problems) - NOTES
    return [*lines, f"not read: {more:,} more, listed in {file}"] if more > 0 else lines


def plain_text(text: str) -> str:
    """Return text without control characters, which file names may contain."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _demo_json(site: Site) -> dict[str, object]:
    own = {key: getattr(site, key) for key in ("url", "host", "port", "model", "imgsz")}
    point = {"confidence": site.threshold.value, "confidence_chosen": site.threshold.chosen}
    return own | point | {"weights": str(site.weights)}


def _demo_lines(site: Site) -> list[str]:
    return [
        f"{site.model}, {site.imgsz} px, initial threshold {site.threshold.value:.2f} ({site.threshold.why})",
        f"open {site.url}   (Ctrl-C stops it)",
    ]


def _export_json(made: ExportResult | None) -> dict[str, object]:
    if made is None:
        return {}
    record = made.record.to_json()
    keys = ("run", "models", "tolerance", "machine")
    return {**{key: record[key] for key in keys}, "path": str(made.folder), "up_to_date": made.up_to_date}


def _export_lines(made: ExportResult) -> list[Any]:
    from facemask_train.apps.export.card import checked_on
    from facemask_train.apps.export.export import CARD
    from facemask_train.apps.export.verify import HEADER, table_rows

    record = made.record
    state = "up to date" if made.up_to_date else "written and checked against PyTorch"
    shown = [(one.format, *row[1:]) for one, row in zip(record.models, table_rows(record), strict=True)]
    return [
        table(f"{record.run} on {checked_on(record)}, {record.inputs.imgsz} px", HEADER, shown),
        f"measured on {record.machine}; {state}: {made.folder}",
        f"model card: {made.folder / CARD}",
    ]


def _space_json(ready: SpaceResult | None) -> dict[str, object]:
    return {} if ready is None else {"space": str(ready.folder), "space_up_to_date": ready.up_to_date}


def _space_lines(ready: SpaceResult) -> list[str]:
    state = "up to date" if ready.up_to_date else "written"
    return [
        f"Space {state}: {ready.folder}",
        f"try it here:   cd {ready.folder} && pip install -r requirements.txt && python app.py",
        "publish it:    hf upload USER/NAME . --repo-type space   (from that folder)",
    ]
