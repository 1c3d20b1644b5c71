"""Take screenshots of fmask's pages, report.jpg and survey.jpg, for docs/.

python docs/make_images.py ROOT        # after `fmask pipeline --sample --root ROOT`
python bench/demo.py ROOT --shots docs   # demo-wide.jpg and demo-phone.jpg
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).parent
RUN = "sample-yolov5n"
PLACES, FIRST_DAY, DAYS = ("market", "train", "ward"), 23, 3


def survey(root: Path, folder: Path) -> Path:
    """Survey the sample's val images as if taken in three places on three days, and return the page."""
    images = sorted((root / "data/ensembles/sample/images/val").iterdir())
    rows = [
        f"{path.name},{PLACES[i % len(PLACES)]},2026-11-{FIRST_DAY + i // len(PLACES) % DAYS}"
        for i, path in enumerate(images)
    ]
    table, out = folder / "places.csv", folder / "survey"
    table.write_text("\n".join(["file,place,time", *rows]) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "facemask_train", "survey", str(images[0].parent), "--root", str(root)]
    subprocess.run([*command, "--run", RUN, "--places", str(table), "--out", str(out), "--quiet"], check=True)
    return out / "report.html"


def take(name: str, page: Path, height: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": height})
        tab.goto(page.resolve().as_uri())
        tab.screenshot(path=DOCS / f"{name}.jpg", type="jpeg", quality=80)
        browser.close()


def main() -> None:
    root = Path(sys.argv[1])
    take("report", root / "runs" / RUN / "evaluation" / "sample-test" / "report.html", 742)
    with TemporaryDirectory() as folder:
        take("survey", survey(root, Path(folder)), 712)


if __name__ == "__main__":
    main()
