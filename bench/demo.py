"""How fast the page of `fmask demo` responds, to one and to ten visitors, its memory use, and its appearance.

    python bench/demo.py ROOT [--run NAME | --weights FILE] [--visitors 10] [--rounds 5] [--shots FOLDER]

Starts the demo of a run under ROOT as a user would, on the CPU. Visitors are HTTP clients that do what the page does:
send an image (1280 x 960, a drawn one), wait in the queue, read the response. Writes bench/results/demo.json, and
prints it. --shots also takes screenshots of the page in Chromium, on a phone and on a wide screen: docs/demo-phone.jpg
and docs/demo-wide.jpg were made in this way, with a run that was trained on the built-in sample.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from facemask_train.core.files import write_json
from facemask_train.core.parallel import usable_cores
from facemask_train.sources.sample.scenes import draw_scene

HERE = Path(__file__).parent


def drawn(number: int) -> bytes:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(draw_scene(Random(f"bench {number}")).image).resize((1280, 960)).save(stream, "JPEG")
    return stream.getvalue()


class Visitor:
    """Sends images to the page, like its own script."""

    def __init__(self, url: str) -> None:
        self.url, self.session = url, secrets.token_hex(5)
        config = json.loads(self._get("config"))
        events = [one for one in config["dependencies"] if any(target[1] == "upload" for target in one["targets"])]
        self.event = events[0]["id"]  # of the first tab

    def ask(self, content: bytes) -> float:
        """Return the seconds of a response, from the first byte sent to the last received."""
        began = time.perf_counter()
        path = json.loads(self._post("upload", *self._form(content)))[0]
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, 0.25]
        body = {"data": data, "fn_index": self.event, "session_hash": self.session}
        self._post("queue/join", json.dumps(body).encode(), "application/json")
        with urllib.request.urlopen(f"{self.url}gradio_api/queue/data?session_hash={self.session}") as stream:
            done = json.loads(next(line for line in stream if b"process_completed" in line).removeprefix(b"data: "))
        assert done["success"], done
        assert "data:image/jpeg" in json.dumps(done["output"])
        return time.perf_counter() - began

    def _form(self, content: bytes) -> tuple[bytes, str]:
        head = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        return head + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"

    def _get(self, what: str) -> bytes:
        with urllib.request.urlopen(self.url + what) as answer:
            return bytes(answer.read())

    def _post(self, what: str, body: bytes, kind: str) -> bytes:
        request = urllib.request.Request(f"{self.url}gradio_api/{what}", body, {"Content-Type": kind})
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())


def measured(url: str, process: int, visitors: int, rounds: int) -> dict[str, Any]:
    images = [drawn(number) for number in range(8)]
    one = Visitor(url)
    alone = [one.ask(images[number % 8]) for number in range(rounds * 4)]
    before = memory(process)
    many = [Visitor(url) for _ in range(visitors)]
    slowest = []
    with ThreadPoolExecutor(visitors) as pool:
        for _ in range(rounds):
            times = list(pool.map(Visitor.ask, many, (images[number % 8] for number in range(visitors))))
            slowest.append(max(times))
    return {
        "alone": {"median": round(median(alone), 3), "slowest": round(max(alone), 3), "n": len(alone)},
        "at_once": {"visitors": visitors, "last_answer": [round(value, 3) for value in slowest]},
        "memory_mb": {"before": before, "after": memory(process)},
    }


def memory(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def shots(url: str, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height in (("wide", 1280, 1040), ("phone", 390, 844)):
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(url)
            page.wait_for_selector(".fm-counts")
            page.locator(".fm-examples button").nth(2).click()
            page.get_by_text("An example image.").first.wait_for()
            page.mouse.move(0, 0)
            page.evaluate("scrollTo(0, 0)")
            if name == "phone":
                page.locator(".fm-counts").first.evaluate("it => it.scrollIntoView({block: 'end'})")
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / f"demo-{name}.jpg", type="jpeg", quality=80)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--weights")
    parser.add_argument("--visitors", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shots", type=Path)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "facemask_train", "demo", "--root", str(arguments.root), "--port", "0", "--json"]
    command += ["--device", "cpu", *(["--run", arguments.run] if arguments.run else [])]
    command += ["--weights", arguments.weights] if arguments.weights else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        site = json.loads(served.stdout.readline())
        try:
            if arguments.shots:
                shots(site["url"], arguments.shots)
            found = measured(site["url"], served.pid, arguments.visitors, arguments.rounds)
        finally:
            served.terminate()
    about = {"model": site["model"], "imgsz": site["imgsz"], "cores": usable_cores()}
    write_json(HERE / "results" / "demo.json", about | found)
    print(json.dumps(about | found, indent=2))


if __name__ == "__main__":
    main()
