"""The page and the charts of a survey. Computes no rate."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.apps.records.survey import FEW, PrevalenceEstimate, ReferenceCounts, Survey, SurveyBin
from facemask_train.core.drawing import GRAY, chart_style
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.bootstrap import Interval
from facemask_train.report import charts, html
from facemask_train.report.charts import Category

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

_NAMED_TICKS = 60  # times whose names fit below a PNG
_NAMED_WARNINGS = 3  # bins with few faces that are named one by one
_LABEL = "The share of faces with a mask, with its 95 % interval, by place and time"
_ASSUMPTIONS = (
    "Faces here are found, missed and classified as faces of the same class and size were in the test set: in the same "
    "light, with the same kind of camera, with the same kinds of mask.",
    "Whether a face is missed or unknown depends on its class, its size and chance, and on nothing else that goes "
    "along with wearing a mask.",
    "False positives occur as often per image as in the test set.",
    "The images are a fair sample of their place and time. This cannot be computed: it depends on where and when the "
    "camera was used.",
)
_METHOD = (
    "A face is classified if its most confident detection is above the operating point, its shorter side is "
    "{min_face:g} pixels or more at the detector's input size, and no detection of the other class is above the "
    "operating point too. Detections down to half the operating point, smaller faces and contested ones are unknown. "
    "The faces of the test set were classified by the same rule.",
    "The rate is the one that best explains the classified faces, given how the detector performed on its test set: "
    "how often it finds and classifies faces with and without a mask, how often it confuses them, and how many false "
    "positives it has per image. The faces of the test set are weighted to the sizes seen here.",
    "The interval (95 %) covers sampling error in both the survey and the test set. It is a melded interval (Bayer, "
    "Fay and Graubard 2022; for the problem see Lang and Reiczigel 2014): for each end, all parts are drawn from the "
    "confidence distribution that is worse for it. Faces in the same image, and images of the same moment, are treated "
    "as correlated.",
)


# ---- the charts ----


def chart(bins: Sequence[SurveyBin]) -> str:
    """Return rates with their intervals over time, a panel for each place, as a separate SVG file.

    Args:
        bins: one or more.
    """
    return charts.standalone(_chart(bins))


def _chart(bins: Sequence[SurveyBin]) -> Markup:
    panels: dict[str, list[Category]] = {}
    for one in bins:
        panels.setdefault(one.place or "all places", []).append(_category(one))
    return charts.interval_chart(panels, [_tick(time) for time in _times(bins)], _LABEL)


def _category(one: SurveyBin) -> Category:
    found = one.estimate
    text = f"{one.place} {one.time}: {rate_text(found)}; {found.n:,} classified faces".strip()
    return Category(_tick(one.time), found.rate, found.interval, found.uncorrected, text)


def _times(bins: Sequence[SurveyBin]) -> list[str]:
    return sorted({one.time for one in bins})


def _tick(time: str) -> str:
    return time.removeprefix("week of ") or "no time"


def draw(bins: Sequence[SurveyBin], path: Path) -> None:
    """Draw the same chart as a PNG, for programs that cannot show an SVG."""
    from matplotlib.figure import Figure

    places = list(dict.fromkeys(one.place for one in bins))
    times = _times(bins)
    with chart_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a place's name in letters that the font lacks
        figure = Figure(figsize=_figure_size(len(times), len(places)), dpi=144, layout="constrained")
        panels = figure.subplots(len(places), squeeze=False)[:, 0]
        for axes, place in zip(panels, places, strict=True):
            _draw_panel(axes, times, {one.time: one for one in bins if one.place == place})
            axes.set_title(place or "all places", loc="left", parse_math=False)
        figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, fontsize=8, loc="outside lower right")
        figure.savefig(path, metadata={"Software": None})


def _figure_size(times: int, places: int) -> tuple[float, float]:
    """Return width and height in inches, within what can be drawn."""
    return min(max(5.0, 1 + 0.3 * times), 60.0), min(2.7 * places, 200.0)


def _draw_panel(axes: Axes, times: Sequence[str], bins: Mapping[str, SurveyBin]) -> None:
    color = html.SERIES[0]
    for x, time in enumerate(times):
        interval = bins[time].estimate.interval if time in bins else None
        if interval is not None:
            axes.vlines(x, *interval, color=color, linewidth=3, alpha=0.45)
    rates = [(x, bins[time].estimate.rate) for x, time in enumerate(times) if time in bins]
    hollow = [(x + 0.14, bins[time].estimate.uncorrected) for x, time in enumerate(times) if time in bins]
    axes.plot(*_columns(rates), "o", label="rate, with its 95 % interval", color=color, markersize=6)
    axes.plot(*_columns(hollow), "o", label="uncorrected", color=GRAY, markersize=4, mfc="none")
    named = range(0, len(times), -(-len(times) // _NAMED_TICKS))
    axes.set_xticks(list(named), [_tick(times[number]) for number in named], fontsize=8)
    if len(times) > 3:
        axes.tick_params(axis="x", rotation=45)
    shares = (0, 0.25, 0.5, 0.75, 1)
    axes.set_yticks(shares, [f"{100 * share:.0f} %" for share in shares], fontsize=8)
    axes.set(xlim=(-0.6, len(times) - 0.4), ylim=(-0.02, 1.02))


def _columns(points: Sequence[tuple[float, float | None]]) -> tuple[list[float], list[float]]:
    """Return the x and the y of the points that have a value."""
    return [x for x, y in points if y is not None], [y for _, y in points if y is not None]


# ---- words ----


def percent(share: float | None) -> str:
    """Return a share in percent, or a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"


def between(interval: Interval | None) -> str:
    """Return an interval in percent, or a dash."""
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def rate_text(one: PrevalenceEstimate) -> str:
    """Return a rate with its interval."""
    if one.rate is None:
        return "no rate" if one.interval is None else f"no rate, but {between(one.interval)}"
    return f"{percent(one.rate)} ({between(one.interval)})"


def bin_notes(bins: Sequence[SurveyBin]) -> list[str]:
    """Return the warnings of single bins; many bins with few faces share one note."""
    found = [(one, warning) for one in bins for warning in one.estimate.warnings]
    few = sum(warning.startswith(FEW) for _, warning in found)
    named = few <= _NAMED_WARNINGS
    notes = [f"{one.name}: {text}" for one, text in found if named or not text.startswith(FEW)]
    if not named:
        notes.insert(0, f"{few:,} of {len(bins):,} bins have few faces or images; note how wide their intervals are")
    return notes


# ---- the page ----


def page(survey: Survey) -> bytes:
    """Return the page of a survey; it shows no faces."""
    reference = survey.reference
    return html.page(
        "How many wear masks",
        list(_sections(survey)),
        kicker="Survey",
        lede=f"The share of faces with a mask, corrected for the errors of {survey.model} as measured on "
        f"{reference.ensemble}, {reference.split}.",
        opening=_opening(survey),
        footer="Made by fmask survey. All numbers are in survey.json and survey.csv beside this page, the chart in "
        "rates.svg and rates.png. This page contains no image of anybody.",
    )


def _opening(survey: Survey) -> list[Markup]:
    overall = survey.overall
    figures = [
        html.KeyFigure(percent(overall.rate), "wear a mask", f"95 % interval {between(overall.interval)}"),
        html.KeyFigure(percent(overall.uncorrected), "uncorrected", "detected as masked, of the classified faces"),
        html.KeyFigure(f"{overall.n:,}", "classified faces", f"in {overall.images:,} images"),
        html.KeyFigure(
            f"{overall.unknown:,}",
            "unknown faces",
            f"if none or all of them wear a mask: {between(overall.unknown_bounds)}",
        ),
    ]
    return [html.key_figures(figures), *([html.notes(overall.warnings)] if overall.warnings else [])]


def _sections(survey: Survey) -> Iterator[html.Section]:
    if survey.bins:
        yield _over_time(survey.bins)
    yield _method(survey)
    yield _detector_errors(survey.reference)
    if survey.problems:
        rows = [(one.file, one.reason) for one in survey.problems]
        yield html.Section("Files that were not read", (html.table(("file", "reason"), rows, text_columns=2),))


def _over_time(bins: Sequence[SurveyBin]) -> html.Section:
    places: dict[str, list[SurveyBin]] = {}
    for one in bins:
        places.setdefault(one.place, []).append(one)
    drawn = [html.scrolling(_chart(own)) for own in places.values()]
    tables = [_table(own, place) for place, own in places.items()]
    notes = bin_notes(bins)
    return html.Section(
        "By place and time" if any(places) else "Over time",
        (html.columns(*drawn), *tables, *([html.notes(notes)] if notes else [])),
        "Filled dots: the rate, with its 95 % interval. Hollow dots: the uncorrected share.",
    )


def _table(bins: Sequence[SurveyBin], place: str) -> Markup:
    columns = (
        "time", "rate", "95 % interval", "uncorrected", "classified faces", "unknown",
        "if none or all of them wear one", "images",
    )  # fmt: skip
    rows = [
        (
            one.time or "no time",
            percent(one.estimate.rate),
            between(one.estimate.interval),
            percent(one.estimate.uncorrected),
            f"{one.estimate.n:,}",
            f"{one.estimate.unknown:,}",
            between(one.estimate.unknown_bounds),
            f"{one.estimate.images:,}",
        )
        for one in bins
    ]
    return html.table(columns, rows, place)


def _method(survey: Survey) -> html.Section:
    inputs, overall = survey.inputs, survey.overall
    counts = (
        f"n counts sightings in {overall.images:,} images, not people. Images taken within "
        f"{inputs.cluster_seconds:g} seconds at one place or in one video count as one moment: there are "
        f"{overall.clusters:,} of them."
    )
    method = [html.paragraph(text.format(min_face=inputs.min_face)) for text in _METHOD]
    assumptions = [html.heading("Assumptions"), html.bullets(_ASSUMPTIONS)]
    return html.Section("Method", (*method, html.paragraph(counts), *assumptions))


def _detector_errors(errors: ReferenceCounts) -> html.Section:
    rows = [(f"{name}, labeled", *(f"{count:,}" for count in errors.faces[name])) for name in CLASSES]
    rows.append(("no face", *(f"{count:,}" for count in errors.false_boxes), ""))
    columns = ("test set", *(f"detected as {name}" for name in CLASSES), "unknown", "missed")
    lede = f"On {errors.ensemble}, {errors.split}: {errors.images:,} images."
    return html.Section("The detector's errors", (html.table(columns, rows),), lede)
