"""The commands that use a model: predict, survey. Each prints what one function gave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train.options import DEFAULT_ROOT, Debug, Device, Json, Quiet, Root
from facemask_train.terminal import table, terminal

if TYPE_CHECKING:
    from facemask_train.use.bins import Calendar
    from facemask_train.use.predict import Predicted
    from facemask_train.use.survey import Surveyed

_SHOWN = 10  # problems that are told one by one


def predict(
    sources: Annotated[list[str], typer.Argument(help="Pictures, videos, folders, globs.")],
    run: Annotated[str | None, typer.Option(help="A run's name; without it the one finished last.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="A checkpoint or an export (.onnx, an OpenVINO folder), instead of a run's best."),
    ] = None,
    imgsz: Annotated[int | None, typer.Option(min=32, help="Picture size in pixels; the run's where left out.")] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="From which a face counts; without it what `evaluate` chose on val, else 0.25."
        ),
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(help="pictures, yolo, coco or csv; more than one: say it again. Without it pictures and csv."),
    ] = None,
    anonymize: Annotated[
        bool,
        typer.Option("--anonymize", help="Cover every face that is found, also a doubtful one, in what is written."),
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds between the frames taken of a video; without it each frame."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; without it one below the run's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures at once; 1 on a CPU, 16 on a GPU.")] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16: faster where the processor has it, and less exact.")
    ] = "float32",
    device: Device = None,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find faces with and without masks in pictures and videos: boxes drawn, and YOLO, COCO or CSV files."""
    with terminal(as_json=as_json, quiet=quiet, debug=debug) as term:
        from facemask_train.use import predict as stage

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
            wish=stage.Wish(tuple(save or stage.DEFAULT_SAVE), anonymize, every),
            progress=term.progress,
        )
        term.result(_predict_json(done), *_predict_lines(done))


def survey(
    sources: Annotated[list[str], typer.Argument(help="Pictures, videos, folders, globs.")],
    run: Annotated[str | None, typer.Option(help="A run's name; without it the one finished last.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="A checkpoint or an export (.onnx, an OpenVINO folder), instead of a run's best."),
    ] = None,
    by: Annotated[str, typer.Option(help="How long a time bin is: minute, hour, day, week, month, or all.")] = "day",
    places: Annotated[
        Path | None, typer.Option(help="A csv: file,place,time. Files may be globs; place or time may be left out.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Place and time in the names: '{place}_{time:%Y%m%d-%H%M}*'.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="When the video begins: '2026-11-25 14:30'.")] = None,
    every: Annotated[float, typer.Option(min=0.001, help="Seconds between the frames taken of a video.")] = 10.0,
    block: Annotated[
        float, typer.Option(min=0.001, help="Seconds of one place or video that count as one moment: the same people.")
    ] = 60.0,
    least_side: Annotated[
        float, typer.Option(min=0, help="A smaller face is unknown: pixels of its side, as the detector sees it.")
    ] = 8.0,
    imgsz: Annotated[int | None, typer.Option(min=32, help="Picture size in pixels; the run's where left out.")] = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="From which a face is judged; without it what `evaluate` chose."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The ensemble that tells how the detector errs; without it the run's own.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split that tells it: test or val.")] = "test",
    keep_faces: Annotated[bool, typer.Option("--keep-faces", help="Write a picture of every face.")] = False,
    out: Annotated[Path | None, typer.Option(help="The folder to write; without it one below the run's.")] = None,
    device: Device = None,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Tell how many of the faces wear masks, by place and time, with the detector's own errors taken out."""
    with terminal(as_json=as_json, quiet=quiet, debug=debug) as term:
        from facemask_train.use import survey as stage

        calendar = _calendar(by, places, pattern, start, block)
        told = {"by": by, "places": None if places is None else places.read_text("utf-8", "replace")}
        told |= {"pattern": pattern, "start": start, "block": block}
        done = stage.survey(
            root,
            sources,
            run=run,
            weights=weights,
            imgsz=imgsz,
            confidence=confidence,
            data=data,
            split=split,
            device=device or "",
            out=out,
            plan=stage.Plan(calendar, told, every, least_side, keep_faces),
            progress=term.progress,
        )
        term.result(_survey_json(done), *_survey_lines(done))


def _calendar(by: str, places: Path | None, pattern: str | None, start: str | None, block: float) -> Calendar:
    from facemask_train.use import bins

    return bins.Calendar(
        bins.check_by(by),
        bins.read_table(places) if places is not None else (),
        bins.pattern_of(pattern) if pattern is not None else None,
        bins.read_time(start, "--start")[0] if start is not None else None,
        block,
    )


# ---- from results to JSON (an interface) and to tables ----


def _predict_json(done: Predicted) -> dict[str, Any]:
    said = done.found
    keys = ("model", "pictures", "videos", "frames", "faces", "mask", "no_mask", "problems")
    head = {key: said[key] for key in keys} | {"confidence": said["inputs"]["confidence"]}
    return head | {
        "confidence_chosen": said["confidence_chosen"],
        "path": str(done.folder),
        "up_to_date": done.up_to_date,
    }


def _predict_lines(done: Predicted) -> list[Any]:
    said, made = done.found, done.found["inputs"]
    by = {"val": "chosen on val", "user": "fixed by you", "default": "the package's default: no evaluation chose one"}
    counts = [(said[key], key.replace("_", " ")) for key in ("pictures", "videos", "frames", "mask", "no_mask")]
    title = f"{said['model']} ({made['backend']}, {made['imgsz']} px), confidence {made['confidence']:.3f}"
    shown = table("", tuple(name for _, name in counts), [tuple(f"{count:,}" for count, _ in counts)])
    hidden = ["a face that the model does not find stays visible: look at each picture before you show it"]
    state = " (up to date)" if done.up_to_date else ""
    return [
        title,
        shown,
        f"confidence: {by[said['confidence_chosen']]}",
        *(hidden if made["anonymize"] else []),
        *_problems_told(said["problems"], "predictions.json"),
        f"written{state}: {done.folder}",
    ]


def _problems_told(problems: list[dict[str, str]], file: str) -> list[str]:
    told = [f"not read: {one['file']}: {one['why']}" for one in problems[:_SHOWN]]
    more = len(problems) - _SHOWN
    return [*told, f"not read: {more:,} more, all in {file}"] if more > 0 else told


def _survey_json(done: Surveyed) -> dict[str, Any]:
    said = {key: value for key, value in done.found.items() if key != "inputs"}
    head = {"confidence": done.found["inputs"]["confidence"], "path": str(done.folder)}
    return said | head | {"up_to_date": done.up_to_date}


def _survey_lines(done: Surveyed) -> list[Any]:
    from facemask_train.use.survey_page import between, name_of, percent, said

    found, unknown = done.found, done.found["unknown"]
    rows = [
        (
            name_of(one),
            f"{percent(one['rate'])}\n{between(one['interval'])}",
            percent(one["uncorrected"]),
            f"{one['n']:,}",
            f"{one['unknown']['faces']:,}",
            between(one["unknown"]["bounds"]),
            f"{one['pictures']:,}",
        )
        for one in found["bins"]
    ]
    columns = ("", "rate", "as counted", "faces", "unknown", "none or all masked", "pictures")
    errors = found["detector"]
    whole = (
        f"{said(found)} wear a mask, with the errors of {found['model']} on {errors['ensemble']}, {errors['split']} "
        f"taken out; {percent(found['uncorrected'])} as counted, of {found['n']:,} faces judged in "
        f"{found['pictures']:,} pictures"
    )
    doubt = f"{unknown['faces']:,} faces are unknown: {between(unknown['bounds'])} if none or all of them wore one"
    notes = [f"note: {one}" for one in found["warnings"]]
    notes += [f"note: {name_of(one)}: {text}" for one in found["bins"] for text in one["warnings"]]
    state = " (up to date)" if done.up_to_date else ""
    return [
        *([table("", columns, rows)] if rows else []),
        whole,
        doubt,
        *_several(notes),
        *_problems_told(found["problems"], "survey.json"),
        f"report{state}: {done.folder / 'report.html'}",
    ]


def _several(notes: list[str]) -> list[str]:
    more = len(notes) - _SHOWN
    return [*notes[:_SHOWN], f"note: {more:,} more, all in the report"] if more > 0 else notes
