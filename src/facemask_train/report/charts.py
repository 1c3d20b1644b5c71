"""The charts of the report page, as SVG: small enough to inline, sharp on any screen, with a text for whoever hovers.

Colours are CSS variables of the page (`--a`, `--b`, ...), so that a chart fits a light page and a dark one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_MOST_POINTS = 160
_WIDE, _HIGH, _LEFT, _BOTTOM, _TOP, _RIGHT = 400, 300, 44, 40, 12, 14


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: its name, CSS colour, points (x, y from 0 to 1), and whether it is dashed."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dash: str = ""


def lines(shown: Sequence[Line], x_label: str, y_label: str, *, mark: float | None = None, note: str = "") -> str:
    """Return a chart of lines over 0 to 1 on both axes.

    Args:
        mark: an x at which a vertical line stands, with `note` beside it.
    """
    parts = [_axes(x_label, y_label)]
    if mark is not None:
        x = _x(mark)
        side = "start" if mark < 0.6 else "end"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_y(1):.1f}" y2="{_y(0):.1f}" class="mark"/>')
        shift = 5 if side == "start" else -5
        parts.append(_text(x + shift, _y(0) - 8, note, side))
    for one in shown:
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in thinned(one.points))
        dash = f' stroke-dasharray="{one.dash}"' if one.dash else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"{dash}>'
            f"<title>{escape(one.name)}</title></polyline>"
        )
    return _svg(parts, f"{y_label} against {x_label}") + legend({one.name: (one.colour, one.dash) for one in shown})


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return as many of the points as can be told apart, the first and the last among them."""
    step = max(1, -(-len(points) // _MOST_POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def reliability(bins: Sequence[Mapping[str, float | Sequence[float] | None]]) -> str:
    """Return a reliability diagram: for each bin its mean confidence, the share that is right, and the interval."""
    parts = [_axes("confidence", "share that is right")]
    parts.append(f'<line x1="{_x(0):.1f}" y1="{_y(0):.1f}" x2="{_x(1):.1f}" y2="{_y(1):.1f}" class="mark"/>')
    most = max((float(one["n"]) for one in bins), default=1.0)  # type: ignore[arg-type]
    for one in bins:
        x, y, n = float(one["confidence"]), float(one["right"] or 0.0), float(one["n"])  # type: ignore[arg-type]
        bounds = one["interval"]
        if isinstance(bounds, Sequence):
            low, high = _y(bounds[0]), _y(bounds[1])
            parts.append(f'<line x1="{_x(x):.1f}" x2="{_x(x):.1f}" y1="{low:.1f}" y2="{high:.1f}" class="whisker"/>')
        radius = 2.5 + 4.5 * (n / most) ** 0.5
        parts.append(
            f'<circle cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="{radius:.1f}" class="dot"><title>{n:.0f} detections of mean '
            f"confidence {x:.2f}: {100 * y:.0f} % right</title></circle>"
        )
    return _svg(parts, "How often detections are right, against their confidence")


def bar(value: float | None, bounds: Sequence[float] | None, colour: str = "var(--a)") -> str:
    """Return a bar from 0 to 1 with a whisker for its interval, to stand in a table's cell."""
    if value is None:
        return ""
    inner = f'<rect x="0" y="4" width="{120 * value:.1f}" height="8" rx="2" fill="{colour}"/>'
    if bounds is not None:
        low, high = (120 * x for x in bounds)
        inner += f'<line x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8" class="whisker"/>'
        inner += "".join(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4.5" y2="11.5" class="whisker"/>' for x in (low, high))
    track = '<rect x="0" y="4" width="120" height="8" rx="2" class="track"/>'
    return f'<svg viewBox="0 0 120 16" class="bar" aria-hidden="true">{track}{inner}</svg>'


def legend(names: Mapping[str, tuple[str, str]]) -> str:
    """Return the key of a chart's lines."""
    items = []
    for name, (colour, dash) in names.items():
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        line = f'<line x1="0" x2="22" y1="4" y2="4" stroke="{colour}" stroke-width="2.5"{dashed}/>'
        items.append(f'<span><svg viewBox="0 0 22 8" class="key">{line}</svg>{escape(name)}</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def _text(x: float, y: float, text: str, anchor: str = "middle", turn: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'


def _x(value: float) -> float:
    return _LEFT + value * (_WIDE - _LEFT - _RIGHT)


def _y(value: float) -> float:
    return _HIGH - _BOTTOM - value * (_HIGH - _BOTTOM - _TOP)


def _axes(x_label: str, y_label: str) -> str:
    ticks = []
    for step in range(0, 11, 2):
        value = step / 10
        x, y = _x(value), _y(value)
        ticks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_y(0):.1f}" y2="{_y(1):.1f}" class="grid"/>')
        ticks.append(f'<line x1="{_x(0):.1f}" x2="{_x(1):.1f}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        ticks.append(_text(x, _y(0) + 16, f"{value:g}"))
        ticks.append(_text(_x(0) - 7, y + 4, f"{value:g}", "end"))
    middle = (_y(0) + _y(1)) / 2
    ticks.append(_text((_x(0) + _x(1)) / 2, _HIGH - 5, x_label))
    ticks.append(_text(11, middle, y_label, turn=f' transform="rotate(-90 11 {middle:.1f})"'))
    return "".join(ticks)


def _svg(parts: Sequence[str], label: str) -> str:
    named = f'class="chart" role="img" aria-label="{escape(label)}"'
    return f'<svg viewBox="0 0 {_WIDE} {_HIGH}" {named}>{"".join(parts)}</svg>'
