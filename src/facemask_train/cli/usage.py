"""The commands that use a model: predict, survey, demo, export. Each prints what one function gave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train.cli.console import Terminal, command
from facemask_train.cli.options import DEFAULT_ROOT, AnyModel, Device, Out, Root, Run, Size, Sources, Weights
from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.apps.demo.server import Site
    from facemask_train.apps.export.export import Export
    from facemask_train.apps.export.space import Space
    from facemask_train.apps.predict import PredictResult
    from facemask_train.apps.records.predictions import UnreadableFile
    from facemask_train.apps.records.survey import SurveyBin
    from facemask_train.apps.survey.survey import SurveyResult
    from facemask_train.apps.survey.time_bins import BinningRules


_SHOWN = 10  # problems, or notes, that are listed


@command
def predict(
    term: Terminal,
    sources: Sources,
    run: Run = None,
    weights: AnyModel = None,
    imgsz: Size = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="From which a face counts; without it what `evaluate` chose on val, else 0.25."
        ),
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(help="images, yolo, coco or csv; more than one: say it again. Without it images and csv."),
    ] = None,
    anonymize: Annotated[
        bool,
        typer.Option("--anonymize", help="Cover every face that is found, also a doubtful one, in what is written."),
    ] = False,
    frame_interval: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds between the video frames to process (default: every frame)."),
    ] = None,
    out: Out = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at once; 1 on a CPU, 16 on a GPU.")] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16: faster where the processor has it, and less exact.")
    ] = "float32",
    device: Device = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Find faces with and without masks in images and videos.

    Boxes are drawn; YOLO, COCO or CSV files are written.
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
        options=stage.PredictOptions(tuple(save or stage.DEFAULT_SAVE), anonymize, frame_interval),
        progress=term.progress,
    )
    term.result(_predict_json(done), *_predict_lines(done))


@command
def survey(
    term: Terminal,
    sources: Sources,
    run: Run = None,
    weights: AnyModel = None,
    by: Annotated[str, typer.Option(help="How long a time bin is: minute, hour, day, week, month, or all.")] = "day",
    places: Annotated[
        Path | None, typer.Option(help="A csv: file,place,time. Files may be globs; place or time may be left out.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Place and time in the names: '{place}_{time:%Y%m%d-%H%M}*'.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="When the video begins: '2026-11-25 14:30'.")] = None,
    frame_interval: Annotated[
        float, typer.Option(min=0.001, help="Seconds between the video frames to process.")
    ] = 10.0,
    cluster_seconds: Annotated[
        float,
        typer.Option(min=0.001, help="Images of one place or video within this many seconds form one cluster."),
    ] = 60.0,
    min_face: Annotated[
        float,
        typer.Option(min=0, help="Smallest face that is classified, in pixels at the detector's input size."),
    ] = 8.0,
    imgsz: Size = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="From which a face is judged; without it what `evaluate` chose."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The ensemble that tells how the detector errs; without it the run's own.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split that tells it: test or val.")] = "test",
    keep_faces: Annotated[bool, typer.Option("--keep-faces", help="Write an image of every face.")] = False,
    out: Out = None,
    device: Device = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Tell how many of the faces wear masks, by place and time.

    The detector's own errors are taken out.
    """
    from facemask_train.apps.survey import survey as stage
    from facemask_train.apps.survey.detector_errors import ReferenceSet

    done = stage.survey(
        root,
        sources,
        run=run,
        weights=weights,
        imgsz=imgsz,
        reference=ReferenceSet(data, split, confidence, min_face),
        device=device or "",
        out=out,
        options=stage.SurveyOptions(
            _binning_rules(by, places, pattern, start, cluster_seconds),
            frame_interval,
            keep_faces,
        ),
        progress=term.progress,
    )
    term.result(_survey_json(done), *_survey_lines(done))


def _binning_rules(
    by: str, places: Path | None, pattern: str | None, start: str | None, cluster_seconds: float
) -> BinningRules:
    from facemask_train.apps.survey import time_bins

    return time_bins.BinningRules(
        time_bins.check_by(by),
        time_bins.read_table(places) if places is not None else (),
        time_bins.parse_pattern(pattern) if pattern is not None else None,
        time_bins.read_time(start, "--start")[0] if start is not None else None,
        cluster_seconds,
    )


@command
def demo(
    term: Terminal,
    run: Run = None,
    weights: AnyModel = None,
    imgsz: Size = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Where the threshold starts; without it what `evaluate` chose."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to bind; 0.0.0.0 opens the page to other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a file.")] = 10,
    max_pixels: Annotated[int, typer.Option(min=1, help="Megapixels of an image.")] = 40,
    max_seconds: Annotated[int, typer.Option(min=1, help="Seconds of a video that are looked at.")] = 60,
    device: Device = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Serve a page that counts masks, until Ctrl-C.

    In an image, before a webcam or in a video.
    """
    from facemask_train.apps.demo import server as stage
    from facemask_train.apps.demo.uploads import Limits

    stage.serve(
        root,
        run=run,
        weights=weights,
        imgsz=imgsz,
        confidence=confidence,
        device=device or "",
        host=host,
        port=port,
        limits=Limits(max_mb, max_pixels, max_seconds),
        told=lambda site: term.result(_demo_json(site), *_demo_lines(site)),
    )


@command
def export(
    term: Terminal,
    target: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to; without it runs/NAME/export/ or runs/NAME/space/.")
    ] = None,
    run: Run = None,
    weights: Weights = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="onnx, openvino, or space; more than once for several.")
    ] = None,
    nms: Annotated[str, typer.Option(help="Suppression inside the file, or outside: left to who reads it.")] = "inside",
    imgsz: Size = None,
    data: Annotated[
        str | None, typer.Option(help="The ensemble to check on, by name or path; without it the run's own.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The split to check on; test where left out, or val if that has no faces.")
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Write a model as ONNX and OpenVINO, or as a ready Space.

    Each is checked against PyTorch; a model card says what it is.
    """
    from facemask_train.apps.export import export as stage
    from facemask_train.apps.export import space

    models, wants_space = stage.asked_for(formats or stage.FORMATS, target, nms)
    options: dict[str, Any] = {
        "run": run,
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


# ---- from results to JSON (an interface) and to lines ----


def _predict_json(done: PredictResult) -> dict[str, Any]:
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
        *_problem_lines(record.problems, record.FILE),
        f"written{state}: {done.folder}",
    ]


def _problem_lines(problems: Sequence[UnreadableFile], file: str) -> list[str]:
    lines = [_plain(f"not read: {one.file}: {one.reason}") for one in problems[:_SHOWN]]
    more = len(problems) - _SHOWN
    return [*lines, f"not read: {more:,} more, listed in {file}"] if more > 0 else lines


def _plain(text: str) -> str:
    """Return text without control characters, which file names may contain."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _demo_json(site: Site) -> dict[str, Any]:
    own = {key: getattr(site, key) for key in ("url", "host", "port", "model", "imgsz")}
    point = {"confidence": site.start.value, "confidence_chosen": site.start.chosen}
    return own | point | {"weights": str(site.weights)}


def _demo_lines(site: Site) -> list[str]:
    return [
        f"{site.model}, {site.imgsz} px, threshold {site.start.value:.2f} to start with ({site.start.why})",
        f"open {site.url}   (Ctrl-C ends it)",
    ]


def _export_json(made: Export | None) -> dict[str, Any]:
    if made is None:
        return {}
    keys = ("run", "models", "tolerance", "machine")
    return {**{key: made.found[key] for key in keys}, "path": str(made.folder), "up_to_date": made.up_to_date}


def _export_lines(made: Export) -> list[Any]:
    from facemask_train.apps.export.export import CARD, HEADER, rows

    found, inputs = made.found, made.found["inputs"]
    where = f"{found['images']:,} images of {inputs['ensemble']['name']}, {inputs['split']}"
    state = "up to date" if made.up_to_date else "written, and answering as PyTorch does"
    shown = [(one["format"], *row[1:]) for one, row in zip(found["models"], rows(found), strict=True)]
    return [
        table(f"{found['run']} on {where}, {inputs['imgsz']} px", HEADER, shown),
        f"measured on {found['machine']}; {state}: {made.folder}",
        f"model card: {made.folder / CARD}",
    ]


def _space_json(ready: Space | None) -> dict[str, Any]:
    return {} if ready is None else {"space": str(ready.folder), "space_up_to_date": ready.up_to_date}


def _space_lines(ready: Space) -> list[str]:
    state = "up to date" if ready.up_to_date else "written"
    return [
        f"Space {state}: {ready.folder}",
        f"try it here:   cd {ready.folder} && pip install -r requirements.txt && python app.py",
        "publish it:    hf upload USER/NAME . --repo-type space   (from that folder)",
    ]


def _survey_json(done: SurveyResult) -> dict[str, Any]:
    record = {key: value for key, value in done.record.to_json().items() if key != "inputs"}
    head = {"confidence": done.record.inputs.confidence, "path": str(done.folder)}
    return record | head | {"up_to_date": done.up_to_date}


def _survey_lines(done: SurveyResult) -> list[Any]:
    from facemask_train.report.survey import between, bin_notes, percent, said

    record, overall, reference = done.record, done.record.overall, done.record.reference
    places = dict.fromkeys(one.place for one in record.bins)
    tables = [_survey_table(place, [one for one in record.bins if one.place == place]) for place in places]
    whole = (
        f"wear a mask: {said(overall)}, corrected for the errors of {record.model} on {reference.ensemble}, "
        f"{reference.split}; {percent(overall.uncorrected)} uncorrected, of {overall.n:,} classified faces in "
        f"{overall.images:,} images"
    )
    unknown = f"unknown: {overall.unknown:,} faces; if none or all of them wore one: {between(overall.unknown_bounds)}"
    notes = [f"note: {_plain(text)}" for text in (*overall.warnings, *bin_notes(record.bins))]
    state = " (up to date)" if done.up_to_date else ""
    return [
        *tables,
        whole,
        unknown,
        *_first(notes),
        *_problem_lines(record.problems, record.FILE),
        f"report{state}: {done.folder / 'report.html'}",
    ]


def _survey_table(place: str, bins: Sequence[SurveyBin]) -> Any:
    from facemask_train.report.survey import between, percent

    def number(text: str) -> str:
        return text.removesuffix(" %")

    rows = [
        (
            one.time or "no time",
            number(percent(one.estimate.rate)),
            number(between(one.estimate.interval)),
            number(percent(one.estimate.uncorrected)),
            f"{one.estimate.n:,}",
            f"{one.estimate.unknown:,}",
            number(between(one.estimate.unknown_bounds)),
        )
        for one in bins
    ]
    columns = ("in %", "rate", "interval", "uncorrected", "faces", "unknown", "if none or all masked")
    return table(place, columns, rows)


def _first(notes: list[str]) -> list[str]:
    more = len(notes) - _SHOWN
    return [*notes[:_SHOWN], f"note: {more:,} more, all in the report"] if more > 0 else notes
