"""The pictures of an evaluation: curves, the confusion matrix, and a page of the worst misses. Computes no score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.detect import Curves, Validation
from facemask_train.drawing import DETECTED, GREY, INK, LABELLED, font, open_upright, outline
from facemask_train.evaluation.matching import KINDS, Kind, Miss, most_telling
from facemask_train.records import CLASSES, Corners

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

# Colours that people with any colour vision can tell apart (Okabe and Ito's set).
CLASS_COLOURS = dict(zip(CLASSES, ("#0072b2", "#d55e00"), strict=True))
_STYLE: Any = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": INK,
    "legend.frameon": False,
}


@contextmanager
def _style() -> Iterator[None]:
    """Draw in the same style wherever it runs: a user's own matplotlib settings are put aside."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def draw_curves(validation: Validation, path: Path) -> None:
    """Draw precision against recall, and precision, recall and F1 against confidence, at IoU 0.5, as a PNG."""
    from matplotlib.figure import Figure

    curves = validation.curves
    with _style():
        figure = Figure(figsize=(10, 3.9), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        _precision_recall(left, validation)
        _against_confidence(right, curves, validation.confidence)
        figure.savefig(path, metadata={"Software": None})  # the same bytes from another version of the label


def _precision_recall(axes: Axes, validation: Validation) -> None:
    curves = validation.curves
    for name, row in zip(curves.names, curves.precision_at_recall, strict=True):
        score = validation.per_class[name]
        label = f"{name}: AP {_percent(score.map50)}, n = {score.n}"
        axes.plot(curves.axis, row, color=CLASS_COLOURS[name], linewidth=1.8, label=label)
    _frame(axes, "Precision against recall", "recall", "precision")
    axes.legend(ncols=2, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), handlelength=1.5)


def _against_confidence(axes: Axes, curves: Curves, confidence: float) -> None:
    styles = (("precision", curves.precision, "--"), ("recall", curves.recall, ":"), ("F1", curves.f1, "-"))
    for index, name in enumerate(curves.names):
        for what, rows, line in styles:
            axes.plot(curves.axis, rows[index], line, color=CLASS_COLOURS[name], linewidth=1.6, label=f"{what}, {name}")
    axes.axvline(confidence, color=GREY, linewidth=1)
    side = "left" if confidence < 0.5 else "right"
    text = f" {confidence:.2f}: precision and recall are taken here "
    axes.text(confidence, 1.03, text, color=GREY, fontsize=8, ha=side, va="bottom")
    _frame(axes, "Against confidence", "confidence", "")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _frame(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(title, pad=20)


def draw_confusion(counts: np.ndarray, confidence: float, path: Path) -> None:
    """Draw the confusion matrix as a PNG: the counts, and each row's shares.

    Args:
        counts: (3, 3) as `matching.confusion` returns it.
    """
    from matplotlib.figure import Figure

    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / rows.clip(min=1)
    with _style():
        figure = Figure(figsize=(9, 3.9), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        _matrix(left, shares, [[str(value) for value in row] for row in counts], "Counts")
        texts = [[f"{value:.0%}" if total else "" for value in row] for row, total in zip(shares, rows, strict=True)]
        _matrix(right, shares, texts, "Shares of each row")
        figure.suptitle(f"Detections above confidence {confidence:.2f}, matched at IoU 0.5", fontsize=9, color=GREY)
        figure.savefig(path, metadata={"Software": None})


def _matrix(axes: Axes, shades: np.ndarray, texts: Sequence[Sequence[str]], title: str) -> None:
    last = len(CLASSES)
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1.15)
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            shown = "" if row == column == last else text
            dark = shades[row, column] > 0.6
            axes.text(column, row, shown, ha="center", va="center", fontsize=12, color="white" if dark else INK)
    axes.set_xticks(range(last + 1), [*CLASSES, "missed"])
    axes.set_yticks(range(last + 1), [*CLASSES, "no face"])
    axes.set(xlabel="detected as", ylabel="labelled")
    axes.set_title(title, pad=8)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


# ---- the page of misses ----

_TILE, _GAP, _COLUMNS, _ROWS = 196, 12, 6, 2  # pixels, pixels, tiles across, tiles down for each kind
_MARGIN, _CAPTION, _HEADING, _HEADER = 20, 40, 44, 84
_TITLES: dict[Kind, str] = {
    "missed": "Missed faces, the largest first",
    "wrong class": "Wrong class, the most confident first",
    "false box": "Boxes that answer no labelled face, the most confident first",
}


def draw_misses(found: Sequence[Miss], folder: Path, confidence: float, title: str, path: Path) -> None:
    """Draw the worst misses as a JPEG: for each kind up to two rows of crops with labelled and detected boxes.

    Args:
        found: every miss, as `matching.misses` returns them.
        folder: the ensemble's folder; the pictures' paths are relative to it.
        confidence: the threshold that made them misses.
    """
    from PIL import Image, ImageDraw

    bands = [(kind, most_telling(found, kind, at_most=_COLUMNS * _ROWS)) for kind in KINDS]
    width = 2 * _MARGIN + _COLUMNS * (_TILE + _GAP) - _GAP
    height = _HEADER + sum(_band_height(len(shown)) for _, shown in bands) + _MARGIN
    page = Image.new("RGB", (width, height), "white")
    _header(ImageDraw.Draw(page), width, title, confidence)
    top = _HEADER
    for kind, shown in bands:
        count = sum(miss.kind == kind for miss in found)
        _band(page, top, _TITLES[kind], count, [(miss, _tile(miss, folder, confidence)) for miss in shown])
        top += _band_height(len(shown))
    page.save(path, "JPEG", quality=88)


def _band_height(tiles: int) -> int:
    return _HEADING + -(-tiles // _COLUMNS) * (_TILE + _CAPTION + _GAP)


def _header(draw: ImageDraw, width: int, title: str, confidence: float) -> None:
    draw.text((_MARGIN, 18), title, fill=INK, font=font(22, bold=True))
    note = f"detections above confidence {confidence:.2f}, matched at IoU 0.5"
    draw.text((_MARGIN, 50), note, fill=GREY, font=font(14))
    x = width - _MARGIN
    for colour, text in ((DETECTED, "detected"), (LABELLED, "labelled")):
        x -= round(draw.textlength(text, font=font(14)))
        draw.text((x, 50), text, fill=INK, font=font(14))
        draw.rectangle((x - 24, 52, x - 8, 66), outline=INK, width=5)
        draw.rectangle((x - 23, 53, x - 9, 65), outline=colour, width=3)
        x -= 48


def _band(page: Image, top: int, title: str, count: int, tiles: Sequence[tuple[Miss, Image]]) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(page)
    shown = "none" if not count else f"{count}, the worst {len(tiles)} shown" if len(tiles) < count else str(count)
    draw.text((_MARGIN, top + 14), f"{title}: {shown}", fill=INK, font=font(15, bold=True))
    for index, (miss, tile) in enumerate(tiles):
        x = _MARGIN + index % _COLUMNS * (_TILE + _GAP)
        y = top + _HEADING + index // _COLUMNS * (_TILE + _CAPTION + _GAP)
        page.paste(tile, (x, y))
        draw.text((x, y + _TILE + 4), _caption(miss), fill=INK, font=font(13))
        stem = _shortened(draw, Path(miss.picture.image).stem)
        draw.text((x, y + _TILE + 21), stem, fill=GREY, font=font(11))


def _caption(miss: Miss) -> str:
    label, detection = miss.pair.label, miss.pair.detection
    found = f"{detection.name} {detection.confidence:.2f}" if detection is not None else ""
    if label is None:
        return found
    size = f"{label.name}, {label.box.width:.0f} x {label.box.height:.0f} px"
    return f"{label.name} taken for {found}" if found else size


def _shortened(draw: ImageDraw, text: str) -> str:
    while draw.textlength(text, font=font(11)) > _TILE:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def _tile(miss: Miss, folder: Path, confidence: float) -> Image:
    """Return a square crop around one miss, with its own boxes drawn thick and its neighbours' thin."""
    from PIL import Image, ImageDraw

    window = _window(miss)
    tile = open_upright(folder / miss.picture.image).crop(window).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(tile)
    for corners, colour, thick in _boxes(miss, confidence):
        outline(draw, _on_tile(corners, window), colour, 3 if thick else 1)
    return tile


def _window(miss: Miss) -> tuple[int, int, int, int]:
    """Return the square around a miss's own boxes: twice as long as they are, 64 px or more, moved into the picture."""
    boxes = [box for box, _, own in _boxes(miss, confidence=1) if own]
    x_min, y_min = (min(box[axis] for box in boxes) for axis in (0, 1))
    x_max, y_max = (max(box[axis] for box in boxes) for axis in (2, 3))
    side = round(max(64.0, 2 * max(x_max - x_min, y_max - y_min)))
    left = _inside((x_min + x_max - side) / 2, side, miss.picture.width)
    top = _inside((y_min + y_max - side) / 2, side, miss.picture.height)
    return left, top, left + side, top + side


def _inside(start: float, side: float, length: int) -> int:
    """Move a window into the picture; one that is longer than the picture is centred on it."""
    return round((length - side) / 2 if side >= length else min(max(start, 0), length - side))


def _boxes(miss: Miss, confidence: float) -> Iterator[tuple[Corners, str, bool]]:
    """Yield every labelled box, and every detected one above `confidence`: the miss's own last, on top."""
    label, detection = miss.pair.label, miss.pair.detection
    for other in miss.picture.labels:
        if other is not label:
            yield other.box.corners, LABELLED, False
    for answer in miss.picture.detections:
        if answer is not detection and answer.confidence > confidence:
            yield answer.corners, DETECTED, False
    if label is not None:
        yield label.box.corners, LABELLED, True
    if detection is not None:
        yield detection.corners, DETECTED, True


def _on_tile(corners: Corners, window: Corners) -> Corners:
    scale = _TILE / (window[2] - window[0])
    x_min, y_min, x_max, y_max = (
        (value - origin) * scale for value, origin in zip(corners, (*window[:2], *window[:2]), strict=True)
    )
    return x_min, y_min, x_max, y_max
