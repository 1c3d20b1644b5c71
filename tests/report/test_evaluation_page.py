"""The report in a real browser, from disk, at phone and desktop width; and what the page must not do."""

from __future__ import annotations

import html.parser
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemask_train.eval.compare import compare
from facemask_train.eval.evaluate import Evaluation
from facemask_train.eval.records.audit import Audit
from facemask_train.report import charts
from facemask_train.report.charts import Line
from helpers import shapes
from helpers.cards import change_card
from helpers.runs import make_run, score

SECTIONS = [
    *("results", "curves", "confusion-matrix", "error-types", "by-class-and-size", "slices"),
    *("shortcuts", "worst-errors", "suspected-label-errors", "data-and-method"),
]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Page(html.parser.HTMLParser):
    """What a page links to and loads, its ids, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            {"src": self.loads, "href": self.links, "id": self.ids}.get(key, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    root = tmp_path_factory.mktemp("paged")
    make_run(root, shapes.draw_ensemble(root, counts=(2, 2, 6)))
    found = score(root, audit=True)
    assert 0 < found.metrics.map50 < 1
    audit = Audit.load(root / "runs/r/audit/v5-test")
    assert all(audit.faces.right.values()), "a face of each class is edited"
    assert any(one.n for one in audit.perturbations), "there is an answer about an edited face"
    return found


def test_the_page_is_self_contained(evaluated: Evaluation) -> None:
    page = Page(evaluated.page.read_text(encoding="utf-8"))
    assert all(source.startswith("data:image/") for source in page.loads)
    assert len(page.loads) == 3, "the perturbed faces, the worst errors, the suspected labels"
    assert [link for link in page.links if link.startswith("#")] == [f"#{name}" for name in SECTIONS]
    assert [link for link in page.links if not link.startswith("#")] == ["data:,"], "the icon"
    assert page.ids == SECTIONS
    assert "script" not in page.tags


def test_the_page_says_what_the_numbers_say(evaluated: Evaluation) -> None:
    text = " ".join(Page(evaluated.page.read_text(encoding="utf-8")).text.split())
    assert f"{100 * evaluated.metrics.map50:.1f}" in text
    low, high = evaluated.metrics.intervals["map50"] or (0, 0)
    assert f"{100 * low:.1f} to {100 * high:.1f}" in text
    for words in ("too few to measure", "not measurable", "YOLOv5s, as published (1)"):
        assert words in text
    assert "cowl" in text
    assert evaluated.metrics.operating_point.chosen == "val"


def test_the_notes_of_the_ensemble_are_on_the_page(tmp_path: Path) -> None:
    ensemble = shapes.draw_ensemble(tmp_path, counts=(2, 2, 4))
    change_card(ensemble, notes=("Bursts <of> one scene may be in two splits.",))
    make_run(tmp_path, ensemble)
    found = score(tmp_path)
    assert "Bursts <of> one scene" in found.report.read_text()
    assert "Bursts &lt;of&gt; one scene" in found.page.read_text(), "text is escaped"
    assert "Not measured" in found.report.read_text()


def test_a_chart_is_small_and_stays_inside(tmp_path: Path) -> None:
    points = list(zip(np.linspace(0, 1, 5000).tolist(), np.linspace(1, 0, 5000).tolist(), strict=True))
    chart = charts.line_chart([Line("<a>", 1, points)], "x", "y", mark=0.9, note="here")
    assert len(chart) < 12_000
    assert "&lt;a&gt;" in chart
    assert charts.thinned(points)[-1] == points[-1]
    assert charts.bar(None) == ""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed here")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_pages_in_a_browser(evaluated: Evaluation, tmp_path: Path, width: int) -> None:
    """Nothing sticks out to the right, and the page is drawn: at a phone's width too."""
    root, name = evaluated.folder.parents[3], f"other{width}"
    make_run(root, root / "data/ensembles/v5", name)
    score(root, run=name, imgsz=96)
    compared = compare(root, ["r", name]).page
    for name, page in (("report", evaluated.page), ("compare", compared)):
        probe = tmp_path / f"{name}.html"
        measure = (
            f'<iframe src="{page.as_uri()}" width="{width}" height="3000" style="border:0" onload="document.title='
            "this.contentDocument ? this.contentDocument.documentElement.scrollWidth : 'closed'\"></iframe>"
        )
        probe.write_text(f'<!doctype html><body style="margin:0">{measure}')
        shot = tmp_path / f"{name}-{width}.png"
        home = tmp_path / f"home-{name}"
        command = [str(BROWSER), *FLAGS, "--allow-file-access-from-files", f"--user-data-dir={home}"]
        size = f"--window-size={max(width, 500)},3000"
        subprocess.run(
            [*command, size, f"--screenshot={shot}", probe.as_uri()], check=True, capture_output=True, timeout=120
        )
        dom = subprocess.run(
            [*command, size, "--virtual-time-budget=3000", "--dump-dom", probe.as_uri()],
            check=True, capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip
        title = dom.split("<title>")[1].split("</title>")[0]
        assert int(title) <= width, "the page is wider than the screen"
        with Image.open(shot) as opened:
            drawn = np.asarray(opened.convert("L"))[:, :width]
        assert (drawn < 128).any(axis=1).mean() > 0.15, "text and charts down the page"
