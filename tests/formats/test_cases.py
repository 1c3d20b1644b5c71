"""Inputs on which readers were found to misbehave: each is read right, or stops with a message. Never lost in silence.

The cases are made by `make_cases.py` beside the checkout, where that exists. Each kind has small tests of its own in
`test_yolo.py`, `test_coco.py`, `test_voc.py`, `test_formats.py` and `tests/dataset/test_readable.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facemask_train.core.boxes import iou
from facemask_train.core.errors import FmaskError
from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.build import build
from facemask_train.sources.fetch import fetch

SHARED = Path(__file__).parents[3] / "shared"
MAKE = SHARED / "cases" / "make_cases.py"

READ = [
    *("00a-control-yolo", "00b-control-voc", "00c-control-coco", "03-yolo-polygons", "04-confidence-column"),
    *("04b-keypoints", "05-image-id-float", "06-image-id-text", "07-bbox-text", "10-voc-swapped-corners"),
    *("12-percent-encoded", "13-nfc-nfd", "13c-double-suffix", "20-names-in-column-1", "28-labels-txt-names"),
    *("29-coco-xyxy", "31-decimal-comma", "32-coco-polygons", "35-same-stem-two-folders"),
    *("26-cvat-xml", "34-darknet-lists"),
    *("14b-control-exif6-shown", "15b-control-exif6-voc-stored", "09-rare-suffixes"),
]
STOPPED = {
    "02-pasted-class-map": "no meaning for mask_weared_incorrect, with_mask, without_mask",
    "08-frame-step": "other frames of a video",
    "08b-labels-in-pixels": "in pixels",
    "27-partial-class-map": "did you mean 'No_Mask'?",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MAKE.is_file(), reason=f"{MAKE} is not there"),
]


def made(slug: str, folder: Path) -> dict[str, Any]:
    """Make a case in a folder, fetch it, and return what is expected of it."""
    command = [sys.executable, str(MAKE), str(SHARED / "kaggle"), str(folder / "made"), slug]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copytree(folder / "made" / slug, folder, dirs_exist_ok=True)
    fetch(folder, ["s"])
    expected: dict[str, Any] = json.loads((folder / "expect.json").read_text())["expected"]
    return expected


@pytest.mark.parametrize("slug", READ)
def test_a_case_is_read_with_every_box_in_its_place(slug: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    expected = made(slug, tmp_path)
    built = build(tmp_path, "s", pool=WorkerPool(workers=1))
    truth = json.loads((tmp_path / "truth.json").read_text())
    rows = pq.read_table(built.path / "manifest.parquet").to_pylist()
    if "pictures_kept" in expected:
        assert built.card.images.kept == expected["pictures_kept"]
        assert built.card.boxes.kept == expected["boxes_kept"]
    assert len(rows) == built.card.images.kept > 0
    for row in rows:
        true = truth[row["source_image"]]
        found = [(one["name"], *(one[key] for key in ("x_min", "y_min", "x_max", "y_max"))) for one in row["labels"]]
        assert len(found) == len(true) > 0
        for name, *box in true:
            assert any(one[0] == name and iou(tuple(box), one[1:]) > 0.95 for one in found), (slug, row["source_image"])  # type: ignore[arg-type]


@pytest.mark.parametrize("slug", STOPPED)
def test_a_case_that_nobody_can_decide_stops_with_its_cause(slug: str, tmp_path: Path) -> None:
    made(slug, tmp_path)
    with pytest.raises(FmaskError) as caught:
        build(tmp_path, "s", pool=WorkerPool(workers=1))
    assert caught.value.exit_code == 3
    assert STOPPED[slug] in str(caught.value)
    assert caught.value.next_step
    assert not (tmp_path / "data/ensembles/s").exists()
