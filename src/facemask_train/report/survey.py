"""A survey for a person to read: the chart of rates over time, and the page. Computes no rate."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.apps.records.survey import FEW, PrevalenceEstimate, ReferenceCounts, Survey, SurveyBin
from facemask_train.core.drawing import GREY, chart_style
from facemask_train.core.types import CLASSES
from facemask_train.report import html

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

_HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 250, 46, 12, 30, 66  # pixels of a panel
_STEP, _LEAST = 24, 330  # pixels for each bin; the least width
_BESIDE = 7  # pixels from a rate to the share as counted
_LETTER = 6.7  # pixels of one in the names of bins, which are turned where they have no room
_NAMED = 60  # bins whose names have room on a PNG
_APART = 8  # pixels between two of them
_TOLD = 3  # bins with few faces that are named one by one
_INK, _SOFT, _LINE, _DOT = "var(--ink, #1b2430)", "var(--soft, #5b6777)", "var(--line, #dfe3e9)", html.SERIES[0]
_FONT = "font-family:system-ui,'DejaVu Sans',sans-serif;font-size:12px"
_RESTS = (
    "Faces here are found, missed and named as faces of the same class and size were in the test set: the same "
    "light, the same kind of camera, the same kinds of mask.",
    "Whether a face is missed, or unknown, depends on its class, its size and chance, and on nothing else that goes "
    "with wearing a mask.",
    "Boxes that are no faces come with each image as often as in the test set.",
    "The images are a fair sample of their place and time. Nobody can compute that: it is a matter of where the "
    "camera stood, and when.",
)
_METHOD = (
    "A face is judged if its surest answer is above the operating point, its side is {least:g} pixels or more as the "
    "detector sees it, and no answer of the other class is above the operating point too. Fainter boxes, down to half "
    "the operating point, and smaller or contested ones are unknown. The test set's faces were judged by the "
    "same rule.",
    "The rate is what explains the judged faces, given what the detector did on its test set: how often it finds and "
    "judges faces with and without a mask, how often it names them wrongly, and how many boxes an image are no faces. "
    "The test set's faces are weighted to the sizes seen here.",
    "The interval (95 %) holds the chance of the sample and of the test set. It is a melded one (Bayer, Fay and "
    "Graubard 2022; the problem as in Lang and Reiczigel 2014): for each end all parts are drawn from the confidence "
    "distribution that is worse for it. Faces of one image, and images of one moment, count as what they are: less "
    "than as many strangers.",
)


# ---- the chart ----


def chart(bins: Sequence[SurveyBin]) -> str:
    """Return rates with their intervals over time, a panel for each place, as an SVG that stands by itself.

    Args:
        bins: as a survey's `bins`, one at least.
    """
    places = list(dict.fromkeys(one.place for one in bins))
    times = sorted({one.time for one in bins})
    wide, high = max(_LEAST, _LEFT + _RIGHT + _STEP * len(times)), _HIGH * len(places)
    panels = [
        f'<g transform="translate(0 {number * _HIGH})">{_panel(place, bins, times, wide)}</g>'
        for number, place in enumerate(places)
    ]
    label = "The share of faces with a mask, with its 95 % interval, over place and time"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'role="img" aria-label="{label}" style="{_FONT}"><title>{label}</title>{"".join(panels)}</svg>'
    )


def _panel(place: str, bins: Sequence[SurveyBin], times: Sequence[str], wide: int) -> str:
    parts = [f'<text x="{_LEFT}" y="16" fill="{_INK}" font-weight="600">{escape(place or "all places")}</text>']
    for step in range(0, 101, 25):
        y = _y(step / 100)
        parts.append(f'<line x1="{_LEFT}" x2="{wide - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{_SOFT}">{step} %</text>')
    step_wide = (wide - _LEFT - _RIGHT) / len(times)
    turned = _LETTER * max(map(len, map(_tick_name, times))) > step_wide - _APART
    own = {one.time: one for one in bins if one.place == place}
    for number, time in enumerate(times):
        x = _LEFT + (number + 0.5) * step_wide
        parts.append(_tick(x, time, turned=turned))
        if time in own:
            parts.append(_mark(x, own[time]))
    return "".join(parts)


def _tick(x: float, time: str, *, turned: bool) -> str:
    y = _HIGH - _BOTTOM + 16
    text = escape(_tick_name(time))
    if turned:
        turn = f'transform="rotate(-45 {x:.1f} {y})" text-anchor="end"'
        return f'<text x="{x:.1f}" y="{y}" {turn} fill="{_SOFT}" font-size="10">{text}</text>'
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle" fill="{_SOFT}">{text}</text>'


def _tick_name(time: str) -> str:
    return time.removeprefix("week of ") or "no time"


def _mark(x: float, one: SurveyBin) -> str:
    """Return a bin: its interval, its rate, and, hollow, the share as counted."""
    told = escape(f"{one.place or ''} {one.time}: {said(one.estimate)}; {one.estimate.n:,} judged faces".strip())
    parts = [f"<title>{told}</title>"]
    if one.estimate.interval:
        low, high = (_y(end) for end in one.estimate.interval)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{_DOT}" stroke-width="3" '
            'stroke-opacity="0.45"/>'
        )
    if one.estimate.uncorrected is not None:
        y = _y(one.estimate.uncorrected)
        parts.append(
            f'<circle cx="{x + _BESIDE:.1f}" cy="{y:.1f}" r="3" fill="none" stroke="{_SOFT}" stroke-width="1.5"/>'
        )
    if one.estimate.rate is not None:
        parts.append(f'<circle cx="{x:.1f}" cy="{_y(one.estimate.rate):.1f}" r="4.5" fill="{_DOT}"/>')
    return f"<g>{''.join(parts)}</g>"


def _y(share: float) -> float:
    return _HIGH - _BOTTOM - share * (_HIGH - _BOTTOM - _TOP)


def draw(bins: Sequence[SurveyBin], path: Path) -> None:
    """Draw the same chart as a PNG, for where no SVG is taken."""
    from matplotlib.figure import Figure

    places = list(dict.fromkeys(one.place for one in bins))
    times = sorted({one.time for one in bins})
    wide, high = min(max(5.0, 1 + 0.3 * len(times)), 60.0), min(2.7 * len(places), 200.0)
    with chart_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a place's name in letters that the font lacks
        figure = Figure(figsize=(wide, high), dpi=144, layout="constrained")
        panels = figure.subplots(len(places), squeeze=False)[:, 0]
        for axes, place in zip(panels, places, strict=True):
            _draw_panel(axes, times, {one.time: one for one in bins if one.place == place})
            axes.set_title(place or "all places", loc="left", parse_math=False)
        figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, fontsize=8, loc="outside lower right")
        figure.savefig(path, metadata={"Software": None})


def _draw_panel(axes: Axes, times: Sequence[str], own: Mapping[str, SurveyBin]) -> None:
    for x, time in enumerate(times):
        interval = own[time].estimate.interval if time in own else None
        if interval:
            axes.vlines(x, *interval, color=_DOT, linewidth=3, alpha=0.45)
    _dots(axes, times, own, "rate", label="rate, with its 95 % interval", color=_DOT, markersize=6)
    _dots(axes, times, own, "uncorrected", beside=0.14, label="as counted", color=GREY, markersize=4, mfc="none")
    named = range(0, len(times), -(-len(times) // _NAMED))
    axes.set_xticks(list(named), [_tick_name(times[number]) for number in named], fontsize=8)
    if len(times) > 3:
        axes.tick_params(axis="x", rotation=45)
    shares = (0, 0.25, 0.5, 0.75, 1)
    axes.set_yticks(shares, [f"{100 * share:.0f} %" for share in shares], fontsize=8)
    axes.set(xlim=(-0.6, len(times) - 0.4), ylim=(-0.02, 1.02))


def _dots(
    axes: Axes, times: Sequence[str], own: Mapping[str, SurveyBin], what: str, *, beside: float = 0.0, **look: Any
) -> None:
    shown = [(x + beside, getattr(own[time].estimate, what)) for x, time in enumerate(times) if time in own]
    axes.plot([x for x, y in shown if y is not None], [y for _, y in shown if y is not None], "o", **look)


# ---- words ----


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def between(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def said(one: PrevalenceEstimate) -> str:
    """Return a rate with its interval in words."""
    if one.rate is None:
        return "no rate" if one.interval is None else f"no rate, but {between(one.interval)}"
    return f"{percent(one.rate)} ({between(one.interval)})"


# ---- the page ----


def page(found: Survey) -> bytes:
    """Return the page: it shows no faces."""
    errors = found.reference
    return html.page(
        "How many wear masks",
        list(_sections(found)),
        kicker="fmask · survey",
        lede=f"The share of faces with a mask, with the errors of {found.model} taken out as they were measured on "
        f"{errors.ensemble}, {errors.split}.",
        opening=_opening(found),
        footer="Made by fmask survey. All numbers are in survey.json and survey.csv beside this page, the chart is "
        "rates.svg and rates.png. The page holds no image of anybody.",
    )


def _opening(found: Survey) -> list[Markup]:
    overall = found.overall
    figures = [
        html.KeyFigure(percent(found.overall.rate), "wear a mask", f"95 % interval {between(found.overall.interval)}"),
        html.KeyFigure(percent(found.overall.uncorrected), "as counted", "called masked, of the faces judged"),
        html.KeyFigure(f"{found.overall.n:,}", "faces judged", f"in {found.overall.images:,} images"),
        html.KeyFigure(
            f"{overall.unknown:,}", "unknown faces", f"none or all of them masked: {between(overall.unknown_bounds)}"
        ),
    ]
    return [html.key_figures(figures), *([html.notes(found.overall.warnings)] if found.overall.warnings else [])]


def _sections(found: Survey) -> Iterator[html.Section]:
    if found.bins:
        yield _over_time(found.bins)
    yield _method(found)
    yield _errors(found.reference)
    if found.problems:
        rows = [(one.file, one.reason) for one in found.problems]
        yield html.Section("Not read", (html.table(("file", "reason"), rows),))


def _over_time(bins: Sequence[SurveyBin]) -> html.Section:
    places: dict[str, list[SurveyBin]] = {}
    for one in bins:
        places.setdefault(one.place, []).append(one)
    tables = [_table(own, place) for place, own in places.items()]
    notes = bin_notes(bins)
    return html.Section(
        "By place and time" if any(places) else "Over time",
        (_charts(list(places.values())), *tables, *([html.notes(notes)] if notes else [])),
        "Filled: the rate, with its 95 % interval. Hollow: the share as counted.",
    )


def _charts(places: Sequence[Sequence[SurveyBin]]) -> Markup:
    """Return a chart for each place, beside each other where there is room."""
    from markupsafe import Markup

    drawn = [Markup(chart(own)) for own in places]  # places and times are escaped there
    return Markup('<div class="scroll">{}</div>').format(Markup(" ").join(drawn))


def _table(bins: Sequence[SurveyBin], place: str) -> Markup:
    columns = ("", "rate", "95 % interval", "as counted", "faces judged", "unknown", "none or all masked", "images")
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


def bin_notes(bins: Sequence[SurveyBin]) -> list[str]:
    """Return what has to be known of single bins; that there is little in them is one note where it is so of many."""
    told = [(one, warning) for one in bins for warning in one.estimate.warnings]
    few = sum(warning.startswith(FEW) for _, warning in told)
    notes = [f"{one.name}: {text}" for one, text in told if few <= _TOLD or not text.startswith(FEW)]
    if few > _TOLD:
        notes.insert(0, f"{few:,} of {len(bins):,} bins hold few faces or images: see how wide their intervals are")
    return notes


def _method(found: Survey) -> html.Section:
    method = [html.paragraph(text.format(least=found.inputs.min_face)) for text in _METHOD]
    moment = f"{found.inputs.cluster_seconds:g}"
    method.append(
        html.paragraph(
            f"n counts sightings in {found.overall.images:,} images, not people. Images taken within {moment} seconds "
            f"of one place or video count as one moment: here {found.overall.clusters:,} of them."
        )
    )
    rests = [html.heading("What it rests on"), *(html.paragraph(text) for text in _RESTS)]
    return html.Section("How it was found", (*method, *rests))


def _errors(errors: ReferenceCounts) -> html.Section:
    rows = [(f"{name}, labelled", *(f"{count:,}" for count in errors.faces[name])) for name in CLASSES]
    rows.append(("no face", *(f"{count:,}" for count in errors.false_boxes), ""))
    columns = ("test set", *(f"called {name}" for name in CLASSES), "unknown", "missed")
    about = f"{errors.ensemble}, {errors.split}: {errors.images:,} images."
    return html.Section("How the detector errs", (html.table(columns, rows),), about)
