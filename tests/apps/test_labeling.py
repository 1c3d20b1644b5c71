"""The page that asks about suspected labels: its requests over plain HTTP, from an answer to a rebuilt ensemble."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from PIL import Image

from facemask_train.apps.labeling.suspects import question, review, suspects
from facemask_train.core.errors import UsageError
from facemask_train.core.fixes import LabelFix, read_fixes
from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.build import build
from facemask_train.dataset.card import FixCounts
from facemask_train.dataset.contents import EnsembleContents, read_contents
from facemask_train.eval.measures.label_errors import LabelError
from facemask_train.sources.fetch import fetch
from helpers.worlds import make_root

LEFT, RIGHT, FREE = (10.0, 10.0, 40.0, 40.0), (50.0, 5.0, 80.0, 45.0), (60.0, 48.0, 75.0, 62.0)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass(frozen=True)
class Page:
    """A page that is served, for a root with one ensemble."""

    root: Path
    port: int
    contents: EnsembleContents

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        kind = {} if body is None else {"Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {**kind, **{key.replace("_", "-"): one for key, one in headers.items()}})
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        return reply.status, content

    def answer(self, number: int, choice: str) -> int:
        return self.ask("POST", "/answer", {"question": number, "choice": choice})[0]

    def fixes(self) -> list[LabelFix]:
        return list(read_fixes(self.root / "configs/ensembles").labels)


def errors_of(contents: EnsembleContents) -> list[LabelError]:
    first, second, third, fourth = [one.image for one in contents.images][:4]
    return [
        LabelError(first, "swapped", 0.9, LEFT, LEFT, "no_mask"),
        LabelError(second, "overlooked", 0.8, None, FREE, "mask"),
        LabelError(third, "not a face", 0.7, RIGHT, None, "no_mask"),
        LabelError(fourth, "badly placed", 0.6, LEFT, (12, 10, 44, 42), "mask"),
    ]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    root = make_root(tmp_path, images=6, recipe={"sources": ["first"]})
    fetch(root, ["first"])
    build(root, "tiny", pool=WorkerPool(workers=1))
    contents, urls, stop = read_contents(root, "tiny"), Queue[str](), threading.Event()
    options: Any = {"on_start": urls.put, "stop": stop}
    thread = threading.Thread(target=review, args=(root, contents, errors_of(contents)), kwargs=options)
    thread.start()
    port = int(urls.get(timeout=60).rstrip("/").rpartition(":")[2])
    yield Page(root, port, contents)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_answers_reach_the_rebuilt_ensemble(page: Page) -> None:
    shas = [one.sha256 for one in page.contents.images][:4]
    assert [page.answer(number, key) for number, key in enumerate("nmxp")] == [204] * 4
    assert page.fixes() == [
        LabelFix(shas[0], "class", LEFT, "no_mask"),
        LabelFix(shas[1], "add", FREE, "mask"),
        LabelFix(shas[2], "remove", RIGHT, "no_mask"),
        LabelFix(shas[3], "move", LEFT, "mask", to=(12, 10, 44, 42)),
    ]
    card = build(page.root, "tiny", pool=WorkerPool(workers=1)).card
    assert card.fixes == FixCounts(4, 0)
    labels = {one.sha256: one.labels for one in read_contents(page.root, "tiny").images}
    found = [[(one.name, one.box.corners) for one in labels[sha]] for sha in shas]
    assert found == [
        [("no_mask", LEFT), ("no_mask", RIGHT)],
        [("mask", LEFT), ("no_mask", RIGHT), ("mask", FREE)],
        [("mask", LEFT)],
        [("mask", (12, 10, 44, 42)), ("no_mask", RIGHT)],
    ]


def test_an_answer_can_be_changed_and_taken_back_and_is_shown_again(page: Page) -> None:
    page.answer(0, "x")
    page.answer(0, "k")
    assert [one.action for one in page.fixes()] == ["keep"]
    status, content = page.ask("GET", "/")
    assert status == 200
    asked = json.loads(re.search(rb'id="questions">(.*?)</script>', content)[1])  # type: ignore[index]
    assert [one["answer"] for one in asked] == ["k", "", "", ""]
    assert page.answer(0, "") == 204
    assert page.fixes() == []


def test_a_fix_that_was_built_in_is_confirmed_or_revised(page: Page) -> None:
    """An answer about a corrected label must not bring the published one back."""
    assert page.answer(0, "n") == page.answer(3, "p") == 204
    build(page.root, "tiny", pool=WorkerPool(workers=1))
    contents, known = read_contents(page.root, "tiny"), page.fixes()
    first, fourth = known[0].image, known[1].image
    images = {one.sha256: one.image for one in contents.images}
    moved = (12.0, 10.0, 44.0, 42.0)
    errors = [
        LabelError(images[first], "swapped", 0.9, LEFT, LEFT, "mask"),
        LabelError(images[fourth], "swapped", 0.9, moved, moved, "no_mask"),
    ]
    again = [one.fixes for one in suspects(contents, errors, known)]
    assert [one["k"] for one in again] == known
    assert again[0]["m"] == LabelFix(first, "class", LEFT, "mask")
    assert again[1]["n"] == LabelFix(fourth, "move", LEFT, "no_mask", to=moved)
    assert again[1]["x"] == LabelFix(fourth, "remove", LEFT, "mask")


def test_answers_go_where_an_option_says(page: Page, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    path = review(page.root, page.contents, errors_of(page.contents), fixes=tmp_path / "own/fixes.yaml", stop=stop)
    assert path == tmp_path / "own/fixes.yaml"
    with pytest.raises(UsageError, match=r"mine\.yaml: expected a file named fixes\.yaml"):
        review(page.root, page.contents, [], fixes=tmp_path / "mine.yaml", stop=stop)


def test_an_image_is_a_crop(page: Page) -> None:
    status, content = page.ask("GET", "/image/1")
    assert status == 200
    assert Image.open(io.BytesIO(content)).size == (640, 640)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content_Type": "text/plain"}, 404),
    ],
)
def test_other_pages_cannot_answer(page: Page, headers: dict[str, str], status: int) -> None:
    assert page.ask("POST", "/answer", {"question": 0, "choice": "x"}, **headers)[0] == status
    assert page.fixes() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"question": 9, "choice": "k"}, 400),
        ({"question": True, "choice": "k"}, 400),
        ({"question": 0, "choice": "p"}, 400),
        ({"question": 0, "choice": ["k"]}, 400),
        ([], 400),
        ("x" * 2000, 413),
    ],
)
def test_what_is_no_answer_is_refused(page: Page, body: object, status: int) -> None:
    assert page.ask("POST", "/answer", body)[0] == status
    assert page.fixes() == []


@pytest.mark.parametrize(
    "path", ["/image/9", "/image/0000000009", "/image/-1", "/image/x", "/../fixes.yaml", "/answer"]
)
def test_there_is_nothing_else_to_read(page: Page, path: str) -> None:
    assert page.ask("GET", path)[0] == 404
    assert page.ask("GET", "/", Host="evil.example")[0] == 403


def test_each_cause_has_its_question_and_choices(page: Page) -> None:
    asked = [question(one) for one in suspects(page.contents, errors_of(page.contents))]
    assert [(one.text, "".join(choice.key for choice in one.choices)) for one in asked] == [
        ("Is this a face with a mask?", "knx"),
        ("Is this a face without a label?", "kmn"),
        ("Is this a face without a mask?", "kmx"),
        ("Is this box in the right place?", "knxp"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_person_answers_by_keyboard(page: Page) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        problems: list[str] = []
        opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        opened.goto(f"http://127.0.0.1:{page.port}/")
        opened.get_by_text("1 of 4, 0 answered").wait_for()
        opened.keyboard.press("n")
        opened.get_by_text("2 of 4, 1 answered").wait_for()
        opened.keyboard.press("ArrowRight")
        opened.get_by_text("3 of 4, 1 answered").wait_for()
        opened.keyboard.press("x")
        opened.get_by_text("4 of 4, 2 answered").wait_for()
        opened.keyboard.press("ArrowLeft")
        opened.get_by_text("3 of 4, 2 answered").wait_for()
        opened.keyboard.press("u")
        opened.get_by_text("3 of 4, 1 answered").wait_for()
        browser.close()
    assert problems == []
    assert [one.action for one in page.fixes()] == ["class"]
