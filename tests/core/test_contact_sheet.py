"""Contact sheets: the positions of tiles and boxes, calculated by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from facemask_train.core.contact_sheet import (
    BOX_LEGEND,
    Tile,
    TileBox,
    TileSection,
    save_contact_sheet,
    shortened,
    square_window,
    tile_image,
)
from facemask_train.core.drawing import font


def painted(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB")).astype(int)


def test_tiles_are_in_rows_below_their_heading(tmp_path: Path) -> None:
    colors = ("red", "lime", "blue")
    tiles = [Tile(Image.new("RGB", (40, 40), color), "caption") for color in colors]
    path = tmp_path / "new" / "sheet.jpg"
    save_contact_sheet(path, [TileSection("Heading", tiles)], title="T", tile_size=(40, 40), columns=2)
    sheet = painted(path)
    assert sheet.shape == (84 + 44 + 2 * (40 + 20 + 12) + 20, 2 * 20 + 2 * (40 + 12) - 12, 3)
    top = 84 + 44
    for color, (x, y) in zip(colors, [(20, top), (72, top), (20, top + 72)], strict=True):
        expected = np.asarray(Image.new("RGB", (1, 1), color)).astype(int)[0, 0]
        assert np.abs(sheet[y + 20, x + 20] - expected).max() < 8, color
    assert (sheet[top + 72 + 20, 72 + 20] > 247).all()  # no fourth tile: white paper


def test_a_sheet_without_tiles_is_as_wide_as_its_title(tmp_path: Path) -> None:
    title = "Nothing to show, and a long title that needs much more room than one tile"
    save_contact_sheet(tmp_path / "sheet.jpg", [], title=title, legend=BOX_LEGEND, columns=1)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (2 * 20 + round(font(22, bold=True).getlength(title)), 84 + 20)


def test_a_tile_shows_the_whole_image_in_proportion() -> None:
    tile = np.asarray(tile_image(Image.new("RGB", (200, 100), "red"), size=(50, 50)))
    rows = np.flatnonzero((tile == (255, 0, 0)).all(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (12, 36)  # 25 rows in the middle of 50


def test_boxes_are_drawn_where_the_window_puts_them() -> None:
    box = TileBox((30, 40, 50, 60), "#0000ff")
    tile = np.asarray(tile_image(Image.new("RGB", (100, 100)), [box], size=(80, 80), window=(20, 30, 60, 70)))
    rows, columns = np.nonzero((tile == (0, 0, 255)).all(axis=2))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (20, 20, 60, 60)


def test_a_later_box_is_on_top() -> None:
    boxes = [TileBox((10, 10, 30, 30), color) for color in ("#ff0000", "#0000ff")]
    tile = np.asarray(tile_image(Image.new("RGB", (40, 40)), boxes, size=(40, 40)))
    assert tile[10, 20].tolist() == [0, 0, 255]


def test_a_window_is_square_and_inside_the_image() -> None:
    assert square_window([(0, 0, 50, 100)], 400, 300) == (0, 0, 200, 200)
    assert square_window([(390, 10, 400, 20)], 400, 300) == (336, 0, 400, 64)
    assert square_window([(10, 10, 20, 20), (30, 40, 50, 50)], 400, 300, around=1, smallest=1) == (10, 10, 50, 50)
    assert square_window([(0, 0, 100, 100)], 100, 100) == (-50, -50, 150, 150)


def test_a_text_is_cut_to_its_width() -> None:
    assert shortened("short", 100, 13) == "short"
    cut = shortened("a caption that is far too long", 100, 13)
    assert cut.endswith("…")
    assert font(13).getlength(cut) <= 100 < font(13).getlength(cut + "m")
