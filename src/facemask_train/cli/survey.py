"""The command `survey`: how many people wear masks, by place and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from facemask_train.cli.console import Terminal, command
from facemask_train.cli.options import (
    DEFAULT_ROOT,
    INPUT,
    MODEL,
    OUTPUT,
    AnyModel,
    Device,
    MaxPixels,
    Out,
    Root,
    Run,
    Size,
    Sources,
    option,
)  # fmt: skip
from facemask_train.cli.tables import table
from facemask_train.cli.usage import NOTES, MinConfidence, plain_text, problem_lines

if TYPE_CHECKING:
    from facemask_train.apps.records.survey import SurveyBin
    from facemask_train.apps.survey.survey import SurveyResult


@command
def survey(
    term: Terminal,
    sources: Sources,
    by: Annotated[
        Literal["minute", "hour", "day", "week", "month", "all"],
        option(group=INPUT, help="Length of a time bin."),
    ] = "day",
    places: Annotated[
        Path | None,
        option(
            group=INPUT,
            metavar="PATH",
            help="CSV file with the columns file (or a glob pattern), place and time; place or time may be absent.",
            show_default="none",
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        option(
            group=INPUT,
            metavar="TEXT",
            help="How file names hold place and time, as in '{place}_{time:%Y%m%d-%H%M}*'.",
            show_default="none",
        ),
    ] = None,
    start: Annotated[
        str | None,
        option(
            group=INPUT,
            metavar="TIME",
            help="When the video starts, as in '2026-11-25 14:30'.",
            show_default="the file's own time",
        ),
    ] = None,
    frame_interval: Annotated[
        float, option(group=INPUT, metavar="SECONDS", min=0.001, help="Time between the video frames to process.")
    ] = 10.0,
    cluster_seconds: Annotated[
        float,
        option(
            group=INPUT,
            metavar="SECONDS",
            min=0.001,
            help="Images of one place or video within this time form one cluster: they may show the same people.",
        ),
    ] = 60.0,
    min_face: Annotated[
        float,
        option(
            group=INPUT,
            metavar="PIXELS",
            min=0,
            help="Smallest face that is classified, at the detector's input size; smaller ones count as unknown.",
        ),
    ] = 8.0,
    max_pixels: MaxPixels = 100,
    run: Run = None,
    weights: AnyModel = None,
    imgsz: Size = None,
    confidence: MinConfidence = None,
    data: Annotated[
        str | None,
        option(
            group=MODEL,
            metavar="TEXT",
            help="Ensemble on which the detector's error rates are measured.",
            show_default="the run's own",
        ),
    ] = None,
    split: Annotated[
        Literal["test", "val"], option(group=MODEL, help="Split on which the error rates are measured.")
    ] = "test",
    keep_faces: Annotated[
        bool, option("--keep-faces", group=OUTPUT, help="Also write an image of every face.")
    ] = False,
    out: Out = None,
    device: Device = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Estimate how many people wear masks, by place and time.

    The proportion is corrected for the detector's own errors.
    """
    from facemask_train.apps.survey import survey as stage
    from facemask_train.apps.survey.detector_errors import ReferenceSet
    from facemask_train.apps.survey.time_bins import binning_rules

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
            binning_rules(by, places, pattern, start, cluster_seconds),
            frame_interval,
            keep_faces,
            max_pixels * 10**6,
        ),
        progress=term.progress,
    )
    term.result(_survey_json(done), *_survey_lines(done))


def _survey_json(done: SurveyResult) -> dict[str, object]:
    record = {key: value for key, value in done.record.to_json().items() if key != "inputs"}
    head = {"confidence": done.record.inputs.confidence, "path": str(done.folder)}
    return record | head | {"up_to_date": done.up_to_date}


def _survey_lines(done: SurveyResult) -> list[Any]:
    from facemask_train.report.survey import between, bin_notes, percent, rate_text

    record, overall, reference = done.record, done.record.overall, done.record.reference
    places = dict.fromkeys(one.place for one in record.bins)
    tables = [_survey_table(place, [one for one in record.bins if one.place == place]) for place in places]
    whole = (
        f"wear a mask: {rate_text(overall)}, corrected for the errors of {record.model} on {reference.ensemble}, "
        f"{reference.split}; {percent(overall.uncorrected)} uncorrected, of {overall.n:,} classified faces in "
        f"{overall.images:,} images"
    )
    unknown = f"unknown: {overall.unknown:,} faces; if none or all of them wore one: {between(overall.unknown_bounds)}"
    notes = [f"note: {plain_text(text)}" for text in (*overall.warnings, *bin_notes(record.bins))]
    state = " (up to date)" if done.up_to_date else ""
    return [
        *tables,
        whole,
        unknown,
        *_first(notes),
        *problem_lines(record.problems, record.FILE),
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
    more = len(notes) - NOTES
    return [*notes[:NOTES], f"note: {more:,} more, all in the report"] if more > 0 else notes
