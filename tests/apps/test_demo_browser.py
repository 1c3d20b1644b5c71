"""The demo as a visitor sees it: served by the command line, in a headless Chromium."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.untrained import scene, write_model

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
)  # fmt: skip
SIDE = 128
PATIENCE = 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


@dataclass(frozen=True)
class Running:
    """A demo that is served: its process, its address, and the folder in which it may leave files."""

    process: subprocess.Popen[str]
    url: str
    weights: Path
    temporary: Path

    def left(self) -> list[str]:
        """Return the files that lie in its upload folder."""
        return [str(path) for path in self.temporary.glob("fmask-demo-*/**/*") if path.is_file()]

    def memory(self) -> int:
        """Return the most memory that it has held, in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def start(folder: Path, weights: Path, *options: str) -> subprocess.Popen[str]:
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "facemask_train", "demo", "--weights", str(weights), "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [*command, "--json", "--max-mb", "2", *options],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("demo")
    weights = folder / "tiny.pt"
    write_model(weights, imgsz=SIDE, share=0.02)
    process = start(folder, weights, "--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    yield Running(process, json.loads(line)["url"], weights, folder / "tmp")
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield found
        found.close()


@pytest.fixture
def page(demo: Running, browser: Any) -> Iterator[Any]:
    """A visitor's page on a phone; a request to another machine fails the test."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, permissions=["camera"])
    opened = context.new_page()
    requested: list[str] = []
    opened.on("request", lambda request: requested.append(request.url))
    opened.set_default_timeout(PATIENCE)
    opened.goto(demo.url)
    opened.wait_for_selector(".fm-counts")
    yield opened
    context.close()
    assert [url for url in requested if not url.startswith((demo.url, "data:", "blob:"))] == []


def image(seed: int = 5, size: tuple[int, int] = (240, 320)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(seed, *size)).save(stream, "JPEG")
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of so many black pixels, in a few hundred kilobytes."""
    packer, row = zlib.compressobj(9), b"\0" * (1 + 3 * width)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def video(folder: Path, seconds: int = 4) -> bytes:
    path = folder / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120))
    for number in range(10 * seconds):
        writer.write(scene(number // 10, 120, 160))
    writer.release()
    return path.read_bytes()


def send(page: Any, name: str, content: bytes, kind: str = "image/jpeg") -> Any:
    """Send a file in the tab that is open, and return the tab."""
    tab = page.locator(".tabitem:visible")
    tab.locator("input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": content})
    return tab


def source_of(tab: Any) -> str:
    return str(tab.locator(".fm-stage img").first.get_attribute("src"))


def changed(page: Any, tab: Any, before: str) -> None:
    """Wait until another image is shown than before."""
    page.wait_for_function(
        "([tab, before]) => tab.querySelector('.fm-stage img')?.src != before", arg=[tab.element_handle(), before]
    )


# ---- what a visitor does ----


def test_the_page_opens_with_an_example_and_the_error_rates(page: Any) -> None:
    body = page.inner_text("body")
    assert "Who wears a mask?" in body
    assert "How often this model errs is not known" in body
    assert "About this model: its training data and its errors" in body
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator(".fm-examples button").count() == 4


def test_an_upload_is_counted_and_the_threshold_updates_the_counts(page: Any, demo: Running) -> None:
    tab = page.locator(".tabitem:visible")
    before = source_of(tab)
    send(page, "street.jpg", image())
    changed(page, tab, before)
    assert demo.left() == []
    slider = tab.locator("input[type=range]")
    sure: list[int] = []
    counted = []
    for _ in range(2):
        slider.fill(f"{(sorted(sure)[len(sure) // 2] + 1 if sure else 5) / 100:.2f}")
        page.wait_for_timeout(700)
        faces = [int(text) for text in tab.locator(".fm-counts dd").all_inner_texts()[:2]]
        labels = tab.locator(".fm-boxes li").all_text_contents()
        assert (faces[0], sum(faces)) == (sum(label.startswith("mask") for label in labels), len(labels))
        sure = [int(label.split()[-2]) for label in labels]
        counted.append(len(labels))
    assert counted[0] > counted[1]
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(700)
    assert tab.locator(".fm-boxes li").count() == counted[0]


def test_an_example_is_counted(page: Any) -> None:
    tab = page.locator(".tabitem:visible")
    before = source_of(tab)
    tab.locator(".fm-examples button").nth(2).press("Enter")
    changed(page, tab, before)
    assert "The image shows" in tab.locator(".fm-counts").inner_text()


def test_files_that_are_not_images_get_a_message_on_the_page(page: Any, demo: Running) -> None:
    files = {
        "text.jpg": b"hello\n" * 100,
        "empty.jpg": b"",
        "cut.jpg": image()[:900],
        "bomb.png": bomb(20_000, 10_000),
    }
    for name, content in files.items():
        tab = send(page, name, image())
        tab.locator(".fm-counts").wait_for()
        send(page, name, content)
        message = tab.locator("[role=alert].fm-problem")
        message.wait_for()
        assert "This image was not accepted" in message.inner_text(), name
        assert "Traceback" not in page.inner_text("body")
        assert tab.locator(".fm-stage img").count() == 0
    assert "too large" in message.inner_text()
    assert demo.left() == []
    assert demo.memory() < 1500  # 200 megapixels would be 600 MB more


def test_a_large_upload_is_refused(page: Any, demo: Running) -> None:
    before = source_of(page.locator(".tabitem:visible"))
    tab = send(page, "big.jpg", np.random.default_rng(0).bytes(2_200_000))
    page.get_by_text("exceed the maximum allowed size").first.wait_for()
    assert source_of(tab) == before
    send(page, "street.jpg", image())  # and the next one is taken
    changed(page, tab, before)
    assert demo.left() == []


def test_the_webcam_is_counted(page: Any, demo: Running) -> None:
    page.get_by_role("tab", name="Webcam").click()
    tab = page.locator(".tabitem:visible")
    tab.get_by_text("Click to Access Webcam").click()
    tab.get_by_text("Record").click()
    tab.locator(".fm-counts").wait_for()
    before = source_of(tab)
    changed(page, tab, before)  # the fake device moves
    tab.get_by_text("Stop").click()
    assert demo.left() == []


def test_a_video_is_counted_over_time(page: Any, demo: Running, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Video").click()
    tab = send(page, "v.mp4", video(tmp_path), "video/mp4")
    tab.locator(".fm-chart svg").wait_for()
    page.wait_for_timeout(500)
    assert tab.locator(".fm-stage img").count() == 6
    assert tab.locator(".fm-chart tbody tr").count() == 8
    send(page, "broken.mp4", video(tmp_path)[:2000], "video/mp4")
    tab.locator("[role=alert].fm-problem").wait_for()
    assert "This video was not accepted" in tab.locator(".fm-problem").inner_text()
    assert demo.left() == []


def test_ten_simultaneous_visitors_all_get_answers(demo: Running, browser: Any) -> None:
    contexts = [browser.new_context() for _ in range(10)]  # ten browsers: one alone opens six connections to a host
    pages = [context.new_page() for context in contexts]
    for opened in pages:
        opened.set_default_timeout(PATIENCE)
        opened.goto(demo.url)
        opened.wait_for_selector(".fm-counts")
    before = source_of(pages[0].locator(".tabitem:visible"))
    for number, opened in enumerate(pages):  # the same image twice: nobody loses theirs
        send(opened, "street.jpg", image(seed=5 + number // 2))
    shown = []
    for opened in pages:
        tab = opened.locator(".tabitem:visible")
        changed(opened, tab, before)
        assert tab.locator(".fm-problem").count() == 0
        shown.append(source_of(tab))
    assert len(set(shown)) == 5
    assert shown[0::2] == shown[1::2]  # each has their own image back
    for context in contexts:
        context.close()
    assert demo.left() == []


# ---- what nobody should be able to do, and the end ----


def test_a_request_for_another_file_reads_and_removes_nothing(demo: Running, tmp_path: Path) -> None:
    outside = tmp_path / "private.jpg"
    outside.write_bytes(image())
    requested = 0
    config = json.loads(urllib.request.urlopen(f"{demo.url}config").read())
    for number, one in enumerate(config["dependencies"]):
        if not any(target[1] == "upload" for target in one["targets"]):
            continue
        given = {"path": str(outside), "meta": {"_type": "gradio.FileData"}}
        body = {"data": [given, 0.5], "fn_index": one.get("id", number), "session_hash": f"s{number}"}
        request = urllib.request.Request(
            f"{demo.url}gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).read()
        stream = urllib.request.urlopen(f"{demo.url}gradio_api/queue/data?session_hash=s{number}", timeout=30)
        message = next(line for line in stream if b"process_completed" in line)
        assert b"data:image" not in message
        requested += 1
    assert requested == 2
    assert outside.exists()


def test_a_port_in_use_is_reported_and_shutdown_is_clean(demo: Running) -> None:
    port = demo.url.rstrip("/").rpartition(":")[2]
    second = start(demo.temporary.parent, demo.weights, "--port", port)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"127.0.0.1:{port}: already in use" in err
    assert json.loads(out)["error"]["next_step"].startswith("fmask demo --port ")
    for kind in (signal.SIGTERM, signal.SIGINT):
        third = start(demo.temporary.parent, demo.weights, "--port", "0")
        assert third.stdout is not None
        assert third.stdout.readline()
        folders = set(demo.temporary.glob("fmask-demo-*"))
        third.send_signal(kind)
        _, err = third.communicate(timeout=120)
        assert (third.returncode, "Traceback" in err) == (0, False), err
        assert len(folders - set(demo.temporary.glob("fmask-demo-*"))) == 1
