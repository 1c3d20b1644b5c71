"""The detector with known detections: they follow its formula, on all ensembles that the tests draw."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from facemask_train.core.boxes import iou
from facemask_train.core.types import CLASSES
from facemask_train.model.detector import load_detector
from helpers import shapes
from helpers.known_detector import color, confidence, known_weights


def drawn(*faces: tuple[float, float, tuple[int, int, int, int]], gray: int = 128) -> np.ndarray:
    """Return an image (90, 120, 3), as JPEG leaves it, with rectangles of these shares of mask and lightnesses."""
    image = Image.new("RGB", shapes.SIZE, (gray,) * 3)
    for mask, light, (x_min, y_min, x_max, y_max) in faces:
        ImageDraw.Draw(image).rectangle((x_min, y_min, x_max - 1, y_max - 1), fill=color(mask, light))
    image.save(stream := io.BytesIO(), "JPEG", quality=100, subsampling=0)
    return np.asarray(Image.open(stream).convert("RGB"))


def test_detections_follow_the_formula() -> None:
    rng = np.random.default_rng(1)
    cases = []
    for mask in (0.0, 0.45, 0.5, 0.55, 1.0) * 8:
        width, height = map(int, rng.integers(24, 37, 2))
        x, y = int(rng.integers(0, 121 - width)), int(rng.integers(0, 91 - height))
        cases.append((mask, float(rng.uniform(0, 0.4)), (x, y, x + width, y + height)))
    images = [drawn(case, gray=int(rng.integers(90, 180))) for case in cases]
    answers = list(load_detector(known_weights(), imgsz=64, device="cpu").predict(images, confidence=0.001))
    for (mask, light, corners), found in zip(cases, answers, strict=True):
        wanted = {name for name, share in zip(CLASSES, (mask, 1 - mask), strict=True) if share > 0.4}
        assert sorted(one.name for one in found) == sorted(wanted)
        for one in found:
            assert one.corners == pytest.approx(corners, abs=1.5)
            logit, most = (np.log(p / (1 - p)) for p in (one.confidence, confidence(one.name, mask, light)))
            assert most - 1.15 < logit < most + 0.1


def test_two_faces_give_two_detections_and_gray_and_green_none() -> None:
    image = drawn((1.0, 0.2, (2, 3, 30, 31)), (0.0, 0.2, (80, 50, 116, 86)))
    plain, green = np.full((90, 120, 3), 90, np.uint8), np.full((90, 120, 3), shapes.GREEN, np.uint8)
    found, *others = load_detector(known_weights(), imgsz=64, device="cpu").predict([image, plain, green])
    assert sorted(one.name for one in found) == ["mask", "no_mask"]
    assert others == [(), ()]


def test_no_detection_is_near_a_threshold() -> None:
    """Before suppression: anchors that answer differ in confidence, and overlap well more or well less than 0.7."""
    import torch

    from facemask_train.model.validation import load_model

    network, _ = load_model(known_weights())
    image = drawn((0.55, 0.2, (3, 5, 37, 40)), (0.0, 0.3, (70, 50, 104, 84)))
    boxed = np.full((64, 64, 3), 114, np.uint8)
    boxed[8:56] = np.asarray(Image.fromarray(image).resize((64, 48), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        (raw,) = network.eval()(torch.from_numpy(boxed).permute(2, 0, 1)[None] / 255)[0]
    centers, scores = raw[:4].T, raw[4:].T
    corners = torch.cat([centers[:, :2] - centers[:, 2:] / 2, centers[:, :2] + centers[:, 2:] / 2], 1)
    for index in range(len(CLASSES)):
        sure = [row for row in range(len(scores)) if scores[row, index] > 0.001]
        logits = sorted(float(scores[row, index].logit()) for row in sure)
        assert len(sure) > 3
        assert min(second - first for first, second in pairwise(logits)) > 0.01
        overlaps = [iou(tuple(corners[a].tolist()), tuple(corners[b].tolist())) for a in sure for b in sure]
        assert not [one for one in overlaps if 0.4 < one < 0.75]
