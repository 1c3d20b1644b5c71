"""The pages: each is one file that opens from disk, well nested, escaped, and equal for equal input."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from types import CodeType

import pytest
from jinja2 import Environment
from PIL import Image

from facemask_train.core.errors import StorageError
from facemask_train.report import html as html_report
from helpers.pagecheck import read_page

HOSTILE = "\"'><script>alert(1)</script><!-- &amp; 😷 ]]>"


def everything(text: str = "plain") -> bytes:
    """Return a page with one of each block, all of it with this text."""
    shown = html_report.embed(Image.new("RGB", (40, 20), "#336699"), text)
    items = (html_report.GridImage(shown, text, text), html_report.GridImage(None, text, missing=text))
    parts = (
        html_report.heading(text),
        html_report.paragraph(text),
        html_report.small(text),
        html_report.notes([text]),
        html_report.table([text, "n"], [[text, "1"]], text),
        html_report.legend([text, "other"]),
        html_report.bars([(text, [3, 1]), ("none", [0, 0])], [text, "other"], text),
        html_report.histogram([text, "2"], [(text, [5, 0]), ("other", [1, 2])], axis=text, caption=text),
        html_report.figure(shown, text),
        html_report.grid(items),
        html_report.sets([html_report.ImageSet(text, text, items, text)]),
        html_report.pair(html_report.paragraph(text), html_report.paragraph("right")),
    )
    sections = [html_report.Section(text, parts, text), html_report.Section("Another one", ())]
    opening = [html_report.key_figures([html_report.KeyFigure(text, text, text)])]
    return html_report.page(text, sections, kicker=text, lede=text, opening=opening, footer=text)


def test_a_page_is_well_nested_and_loads_nothing() -> None:
    page = read_page(everything())
    assert page.values("a", "href") == ["#plain", "#another-one"]
    assert page.tags.count("img") == 3
    assert "3 + 1" in page.text


@pytest.mark.parametrize("text", [HOSTILE, "", "{{ 1 }}", "ж ö 口罩"])
def test_any_text_is_escaped(text: str) -> None:
    page = read_page(everything(text))
    assert ("<script" in page.html, "alert(1)</" in page.html) == (False, False)
    assert page.values("img", "alt") == [text] * 3
    if text:
        assert page.texts.count(" ".join(text.split())) > 20


def test_an_undecodable_file_name_does_not_stop_a_page() -> None:
    assert read_page(everything("\udcff name"))


def test_equal_input_gives_equal_bytes() -> None:
    assert everything() == everything()


def test_a_template_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str | None] = []

    def counting(self: Environment, source: str, name: str | None = None, *more: object) -> CodeType:
        compiled.append(name)
        return compile_template(self, source, name, *more)

    compile_template = Environment.compile
    monkeypatch.setattr(Environment, "compile", counting)
    html_report._environment.cache_clear()
    assert everything("one") != everything("two")
    assert sorted(map(str, compiled)) == sorted(set(map(str, compiled))) != []


def test_bars_are_drawn_to_scale() -> None:
    drawn = str(html_report.bars([("train", [1500, 500]), ("val", [0, 500])], ["mask", "no_mask"]))
    assert re.findall(r'x="([\d.]+)" y="0.00" width="([\d.]+)"', drawn) == [
        *(("0.00", "75.00"), ("75.00", "25.00")),
        *(("0.00", "0.00"), ("0.00", "25.00")),
    ]
    assert "1,500 + 500" in drawn


def test_a_histogram_has_its_numbers_in_a_table() -> None:
    made = html_report.histogram(["0", "8+"], [("mask", [1, 1200]), ("no_mask", [0, 3])], axis="px")
    page = read_page(html_report.page("x", [html_report.Section("y", (made,))]))
    numbers = page.texts.index("The numbers") + 1
    assert page.texts[numbers:] == ["px", "mask", "no_mask", "0", "1", "0", "8+", "1,200", "3"]
    assert "1,203" in page.texts[:numbers]  # above the column


@pytest.mark.parametrize(
    "block", [html_report.bars([], ["mask"]), html_report.histogram([], [], axis="px"), html_report.grid([])]
)
def test_an_empty_chart_is_drawn(block: str) -> None:
    assert read_page(html_report.page("x", [html_report.Section("y", (block,))]))  # type: ignore[arg-type]


def test_a_page_is_written_atomically_and_a_full_disk_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html_report.write(tmp_path / "new/page.html", b"x")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(html_report, "write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        html_report.write(tmp_path / "new/page.html", b"y")
    assert (tmp_path / "new/page.html").read_bytes() == b"x"
