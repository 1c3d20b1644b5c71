"""The charts of the HTML pages, as SVG: line, interval and dot charts, bars and histograms. The only drawer of charts.

Colors are the CSS classes of `templates/charts.css`: `s1` to `s4` are the first to fourth series, so a chart follows
the light and dark theme of its page. Every mark has a text that is shown on hover. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.eval.measures.bootstrap import Interval

if TYPE_CHECKING:
    from markupsafe import Markup

STYLE = Path(__file__).parent / "templates" / "charts.css"

_MAX_POINTS = 160  # of a line: more could not be distinguished
_BAR = 120.0  # width of a bar in a table's cell
_CATEGORY, _MIN_WIDTH = 24.0, 330.0  # pixels for each category of an interval chart; the least width
_LETTER = 6.7  # pixels of a letter below an axis; names are turned if they do not fit
_PERCENT_STEPS = tuple(step / 4 for step in range(5))
_TENTHS = tuple(step / 5 for step in range(6))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: its name, its series (1 to 4), points (x, y from 0 to 1), and a dash pattern if any."""

    name: str
    series: int
    points: Sequence[tuple[float, float]]
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    """A dot at (x, y), both from 0 to 1, with its interval along y; `weight` (0 to 1) sets its size."""

    x: float
    y: float
    interval: Interval | None
    text: str
    weight: float = 0.5


@dataclass(frozen=True, slots=True)
class Category:
    """A position on the axis of an interval chart: a value with its interval, and a second value drawn hollow."""

    name: str
    value: float | None
    interval: Interval | None
    hollow: float | None
    text: str


@dataclass(frozen=True, slots=True)
class _Area:
    """The plot area in pixels: values from 0 to 1 are mapped to its edges."""

    left: float
    top: float
    right: float
    bottom: float

    def x(self, value: float) -> float:
        return self.left + value * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - value * (self.bottom - self.top)


_SQUARE = _Area(44, 12, 386, 260)  # of a chart with numbers on both axes
_SIZE = (400.0, 300.0)


# ---- lines and dots: both axes from 0 to 1 ----


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, *, mark: float | None = None, note: str = ""
) -> Markup:
    """Return lines over 0 to 1 on both axes, with a legend.

    Args:
        mark: the x of a vertical line, with `note` beside it.
    """
    parts = [_number_axes(x_label, y_label)]
    if mark is not None:
        x, side, shift = _SQUARE.x(mark), *(("start", 5) if mark < 0.6 else ("end", -5))
        parts += [_line(x, _SQUARE.top, x, _SQUARE.bottom, "mark"), _text(x + shift, _SQUARE.bottom - 8, note, side)]
    for one in lines:
        path = " ".join(f"{_SQUARE.x(x):.1f},{_SQUARE.y(y):.1f}" for x, y in thinned(one.points))
        parts.append(
            _markup('<polyline points="{}" class="line s{}"{}>{}</polyline>').format(
                path, one.series, _dash(one.dash), _title(one.name)
            )
        )
    key = legend({one.name: (one.series, one.dash) for one in lines})
    return _svg(parts, _SIZE, f"{y_label or 'value'} against {x_label}") + key


def dot_chart(dots: Sequence[Dot], x_label: str, y_label: str, label: str) -> Markup:
    """Return dots with their intervals over 0 to 1 on both axes, and the diagonal on which both are equal."""
    parts = [_number_axes(x_label, y_label)]
    parts.append(_line(_SQUARE.x(0), _SQUARE.y(0), _SQUARE.x(1), _SQUARE.y(1), "mark"))
    for one in dots:
        x = _SQUARE.x(one.x)
        if one.interval is not None:
            parts.append(_line(x, _SQUARE.y(one.interval[0]), x, _SQUARE.y(one.interval[1]), "whisker"))
        parts.append(_circle(x, _SQUARE.y(one.y), 2.5 + 4.5 * one.weight**0.5, "dot s1", one.text))
    return _svg(parts, _SIZE, label)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Reduce the points to as many as can be distinguished, including the first and the last."""
    step = max(1, -(-len(points) // _MAX_POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


# ---- intervals over categories ----


def interval_chart(panels: Mapping[str, Sequence[Category]], names: Sequence[str], label: str) -> Markup:
    """Return values with their intervals over categories, one panel below the other.

    Args:
        panels: the categories of each panel, by the panel's title.
        names: of the categories, in their order on the axis; a panel may lack some.
        label: what the chart shows, for screen readers.
    """
    height = 250.0
    width = max(_MIN_WIDTH, 58 + _CATEGORY * len(names))
    parts = []
    for number, (title, categories) in enumerate(panels.items()):
        content = _joined(_panel(title, categories, names, _Area(46, 30, width - 12, height - 66)))
        parts.append(_markup('<g transform="translate(0 {})">{}</g>').format(f"{number * height:g}", content))
    return _svg(parts, (width, height * len(panels)), label, fixed=True)


def _panel(title: str, categories: Sequence[Category], names: Sequence[str], area: _Area) -> Iterator[Markup]:
    yield _markup('<text x="{}" y="16" class="title">{}</text>').format(f"{area.left:g}", title)
    for step in _PERCENT_STEPS:
        yield _line(area.left, area.y(step), area.right, area.y(step), "grid")
        yield _text(area.left - 6, area.y(step) + 4, f"{100 * step:.0f} %", "end")
    step_width = (area.right - area.left) / max(len(names), 1)
    turned = _LETTER * max(map(len, names), default=0) > step_width - 8
    by_name = {one.name: one for one in categories}
    for number, name in enumerate(names):
        x = area.left + (number + 0.5) * step_width
        yield _category_name(x, area.bottom + 16, name, turned=turned)
        if name in by_name:
            yield _category(x, by_name[name], area)


def _category_name(x: float, y: float, name: str, *, turned: bool) -> Markup:
    if turned:
        return _text(x, y, name, "end", f"rotate(-45 {x:.1f} {y:.1f})")
    return _text(x, y, name)


def _category(x: float, one: Category, area: _Area) -> Markup:
    parts = [_title(one.text)]
    if one.interval is not None:
        parts.append(_line(x, area.y(one.interval[0]), x, area.y(one.interval[1]), "range s1"))
    if one.hollow is not None:
        parts.append(_circle(x + 7, area.y(one.hollow), 3, "hollow"))
    if one.value is not None:
        parts.append(_circle(x, area.y(one.value), 4.5, "dot s1"))
    return _markup("<g>{}</g>").format(_joined(parts))


# ---- bars ----


def bar(value: float | None, interval: Interval | None = None, *, series: int = 1) -> Markup:
    """Return a bar from 0 to 1 with its interval, for a table's cell; nothing without a value."""
    if value is None:
        return _markup("")
    parts = [_rect(0, 4, _BAR, 8, "track"), _rect(0, 4, _BAR * value, 8, f"bar s{series}")]
    if interval is not None:
        low, high = (_BAR * end for end in interval)
        parts.append(_line(low, 8, high, 8, "whisker"))
        parts += [_line(end, 4.5, end, 11.5, "whisker") for end in (low, high)]
    return _markup('<svg viewBox="0 0 {:g} 16" class="chart cell" aria-hidden="true">{}</svg>').format(
        _BAR, _joined(parts)
    )


def stacked_bar(values: Sequence[float], largest: float) -> Markup:
    """Return a horizontal bar, one part for each series; `largest` is the total that fills the width."""
    parts, start = [], 0.0
    for number, value in enumerate(values):
        width = 100 * value / (largest or 1)
        parts.append(_rect(start, 0, width, 10, f"bar s{number + 1}"))
        start += width
    return _markup('<svg viewBox="0 0 100 10" preserveAspectRatio="none" class="chart stack" {}>{}</svg>').format(
        _markup('aria-hidden="true"'), _joined(parts)
    )


def histogram(ticks: Sequence[str], series: Sequence[tuple[str, Sequence[int]]], *, axis: str) -> Markup:
    """Return vertical columns, with one stacked part for each series.

    Args:
        ticks: the text below each column.
        series: by name, a value for each tick.
        axis: what the ticks are, with their unit.
    """
    area = _Area(8, 22, 632, 190)
    stacks = [[values[number] for _, values in series] for number in range(len(ticks))]
    highest = max(map(sum, stacks), default=0) or 1
    step = (area.right - area.left) / max(len(ticks), 1)
    parts = [_line(area.left, area.bottom, area.right, area.bottom, "axis")]
    for number, (tick, stack) in enumerate(zip(ticks, stacks, strict=True)):
        left, base = area.left + number * step, 0
        for index, value in enumerate(stack):
            top, text = area.y((base + value) / highest), f"{tick}: {value:,} {series[index][0]}"
            parts.append(
                _rect(left + 1, top, max(step - 2, 1), area.y(base / highest) - top, f"bar s{index + 1}", text)
            )
            base += value
        if base:
            parts.append(_text(left + step / 2, area.y(base / highest) - 5, f"{base:,}"))
        parts.append(_text(left + step / 2, area.bottom + 16, tick))
    parts.append(_text((area.left + area.right) / 2, 226, axis))
    return _svg(parts, (640.0, 232.0), f"Histogram: {axis}")


def stacked_columns(stacks: Sequence[Sequence[float]], *, label: str) -> Markup:
    """Return thin columns without ticks, one part for each series; the page stretches them to any width.

    Args:
        stacks: the values of each column, from the bottom.
        label: what is drawn, for those who cannot see it.
    """
    area, highest = _Area(0, 4, 600, 150), max(map(sum, stacks), default=0) or 1
    step = area.right / max(len(stacks), 1)
    parts = [_line(area.left, area.bottom, area.right, area.bottom, "axis")]
    for number, stack in enumerate(stacks):
        base = 0.0
        for index, value in enumerate(stack):
            top, bottom = area.y((base + value) / highest), area.y(base / highest)
            parts.append(_rect((number + 0.1) * step, top, 0.8 * step, bottom - top, f"bar s{index + 1}"))
            base += value
    return _markup('<svg viewBox="0 0 600 150" preserveAspectRatio="none" class="chart" role="img" {}>{}</svg>').format(
        _markup('aria-label="{}"').format(label), _joined(parts)
    )


def legend(names: Mapping[str, tuple[int, str]]) -> Markup:
    """Return the legend of a line chart: the series and dash pattern of each line, by its name."""
    items = [
        _markup('<li><svg viewBox="0 0 22 8" class="chart key" aria-hidden="true">{}</svg>{}</li>').format(
            _markup('<line x1="0" x2="22" y1="4" y2="4" class="line s{}"{}/>').format(series, _dash(dash)), name
        )
        for name, (series, dash) in names.items()
    ]
    return _markup('<ul class="legend">{}</ul>').format(_joined(items))


def standalone(chart: Markup) -> str:
    """Return a chart as a separate SVG file that includes its style."""
    style = f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
    start, end = str(chart).split(">", 1)
    return f'{start} xmlns="http://www.w3.org/2000/svg">{style}{end}'


# ---- elements ----


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


def _joined(parts: Sequence[Markup] | Iterator[Markup]) -> Markup:
    return _markup("").join(parts)


def _svg(parts: Sequence[Markup], size: tuple[float, float], label: str, *, fixed: bool = False) -> Markup:
    width, height = (f"{side:g}" for side in size)
    fixed_size = _markup(' width="{}" height="{}"').format(width, height) if fixed else ""
    start = _markup('<svg viewBox="0 0 {} {}"{} class="chart{}" role="img" aria-label="{}">').format(
        width, height, fixed_size, "" if fixed else " fluid", label
    )
    return start + _joined(parts) + _markup("</svg>")


def _title(text: str) -> Markup:
    return _markup("<title>{}</title>").format(text) if text else _markup("")


def _dash(pattern: str) -> Markup:
    return _markup(' stroke-dasharray="{}"').format(pattern) if pattern else _markup("")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return _markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _rect(x: float, y: float, width: float, height: float, kind: str, text: str = "") -> Markup:
    return _markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" class="{}">{}</rect>').format(
        x, y, width, height, kind, _title(text)
    )


def _circle(x: float, y: float, radius: float, kind: str, text: str = "") -> Markup:
    return _markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="{}">{}</circle>').format(
        x, y, radius, kind, _title(text)
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", transform: str = "") -> Markup:
    turn = _markup(' transform="{}"').format(transform) if transform else ""
    return _markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, turn, text)


def _number_axes(x_label: str, y_label: str) -> Markup:
    """Return the grid, the numbers and the labels of axes from 0 to 1."""
    area, parts = _SQUARE, []
    for value in _TENTHS:
        x, y = area.x(value), area.y(value)
        parts += [_line(x, area.bottom, x, area.top, "grid"), _line(area.left, y, area.right, y, "grid")]
        parts += [_text(x, area.bottom + 16, f"{value:g}"), _text(area.left - 7, y + 4, f"{value:g}", "end")]
    middle = (area.top + area.bottom) / 2
    parts.append(_text((area.left + area.right) / 2, _SIZE[1] - 5, x_label))
    parts.append(_text(11, middle, y_label, transform=f"rotate(-90 11 {middle:.1f})"))
    return _joined(parts)
