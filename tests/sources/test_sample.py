"""The built-in sample: equal bytes every time, the published layouts and defects, a task that color cannot solve."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facemask_train.core.recipe import read_recipe
from facemask_train.dataset.build import build
from facemask_train.sources.fetch import fetch
from facemask_train.sources.sample.archives import write_archive

LAYOUTS = ("voc", "yolo-beside", "darknet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root in which the sample is fetched and built."""
    folder = tmp_path_factory.mktemp("sample")
    fetch(folder, list(read_recipe(folder, "sample").sources))
    build(folder, "sample")
    return folder


@pytest.fixture(scope="module")
def manifest(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "data/ensembles/sample/manifest.parquet")


def test_an_archive_is_the_same_every_time(tmp_path: Path, root: Path) -> None:
    write_archive("darknet", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        files = {name: hashlib.sha256(archive.read(name)).digest() for name in archive.namelist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    fetched = root / "data/raw/sample-darknet/files"
    kept = {path.relative_to(fetched).as_posix(): path for path in fetched.rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).digest() for name, path in kept.items()}.items() <= files.items()
    assert {name.rpartition(".")[2] for name in files.keys() - kept.keys()} == {"cache", "npy", "py"}


def test_it_is_large_enough_to_score(manifest: pd.DataFrame) -> None:
    splits = manifest.split.value_counts()
    assert splits["test"] >= 60
    assert splits["train"] >= 200
    faces = Counter(label["name"] for labels in manifest[manifest.split == "test"].labels for label in labels)
    assert min(faces.values()) >= 72
    assert abs(faces["mask"] - faces["no_mask"]) < 0.25 * sum(faces.values())


def test_the_published_defects_are_in_it(root: Path) -> None:
    issues = pd.read_parquet(root / "data/ensembles/sample/issues.parquet")
    met = set(issues.cause[issues.item == "image"].str.split("+").explode()) | set(issues.cause)
    assert {"alpha", "palette", "exif-orientation", "wrong-extension", "bytes-after-end", "truncated"} <= met
    assert {"no-label-file", "worn-incorrectly", "wrong-columns", "not-a-number", "unknown-class", "no-area"} <= met
    assert {"past-edge", "duplicate"} <= met
    files = root / "data/raw"
    classes = files / "sample-yolo/files/images/classes.txt"
    assert classes.read_bytes() == b"no_mask\nmask"  # the reverse of the ensemble's order, without a final newline
    names = [path.name for path in (files / "sample-yolo/files").rglob("*")]
    assert any(len(name) > 100 and "(" in name and " " in name for name in names)
    digests = [
        hashlib.sha256(path.read_bytes()).digest() for path in files.rglob("*") if path.suffix in (".jpg", ".png")
    ]
    assert 6 <= sum(count - 1 for count in Counter(digests).values()) <= 20


def test_corners_count_from_one_in_the_voc_archive(root: Path) -> None:
    text = "".join(path.read_text() for path in (root / "data/raw/sample-voc/files/annotations").glob("*.xml"))
    numbers = [int(part.split("<")[0]) for part in text.split("<xmin>")[1:]]
    assert min(numbers) >= 1


def crops(root: Path, manifest: pd.DataFrame, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return color statistics (n, features) of every labeled face of a split, and whether it wears a mask (n,)."""
    rows, classes = [], []
    for entry in manifest[manifest.split == split].to_dict("records"):
        image = Image.open(io.BytesIO((root / "data/ensembles/sample" / entry["image"]).read_bytes())).convert("RGB")
        for label in entry["labels"]:
            crop = image.crop([round(label[key]) for key in ("x_min", "y_min", "x_max", "y_max")])
            rows.append(statistics(crop))
            classes.append(label["name"] == "mask")
    return np.array(rows), np.array(classes)


def statistics(crop: Image.Image) -> np.ndarray:
    """Return means, deviations and histograms of RGB, HSV and Lab of a crop and of its upper and lower half."""
    found = []
    middle = crop.height // 2
    for part in (crop, crop.crop((0, 0, crop.width, middle)), crop.crop((0, middle, crop.width, crop.height))):
        for space in ("RGB", "HSV", "LAB"):
            pixels = np.asarray(part.convert("HSV") if space == "HSV" else lab(part) if space == "LAB" else part)
            flat = pixels.reshape(-1, 3).astype(float)
            counts = [np.histogram(flat[:, channel], 8, (0, 256))[0] / len(flat) * 100 for channel in range(3)]
            found += [flat.mean(0), flat.std(0), *counts]
    return np.concatenate(found)


def lab(image: Image.Image) -> np.ndarray:
    import cv2

    return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2LAB)


@pytest.mark.slow
def test_color_statistics_of_perfect_boxes_do_not_solve_the_task(root: Path, manifest: pd.DataFrame) -> None:
    known, answers = crops(root, manifest, "train")
    unknown, truth = crops(root, manifest, "test")
    middle, spread = known.mean(0), known.std(0) + 1e-9
    known, unknown = (known - middle) / spread, (unknown - middle) / spread
    majority = max(truth.mean(), 1 - truth.mean())
    assert majority < 0.6
    signs = 2.0 * answers - 1
    for weight in (10.0, 300.0, 3000.0):  # ridge regression on the sign of the class
        beta = np.linalg.solve(known.T @ known + weight * np.eye(known.shape[1]), known.T @ signs)
        assert ((unknown @ beta > 0) == truth).mean() < 0.6
    distances = ((unknown[:, None] - known[None]) ** 2).sum(-1)
    for neighbors in (1, 5, 15):
        votes = answers[np.argsort(distances, 1)[:, :neighbors]].mean(1)
        assert ((votes > 0.5) == truth).mean() < 0.6
