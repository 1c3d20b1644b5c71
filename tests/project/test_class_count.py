"""With a third class, everything that counts, draws or writes by class has three: nothing says 2 for their number."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from facemask_train.core import types

types.CLASSES = CLASSES = ("mask", "no_mask", "worn_incorrectly")

from facemask_train.apps.survey import samples
from facemask_train.apps.survey.face_rules import FaceRules, classify_faces, classify_reference
from facemask_train.core.drawing import CHART_COLORS, CLASS_COLORS
from facemask_train.core.types import Annotation, Box, Detection, ImageResult
from facemask_train.eval.measures.boxes_table import boxes_table
from facemask_train.eval.measures.cells import cells
from facemask_train.eval.measures.matching import confusion_matrix
from facemask_train.eval.measures.metrics import average_precisions, rates_at_confidence, score_split
from facemask_train.formats import yolo
from facemask_train.training.history.curves import _colored


def face(number, name):
    x = 60.0 * number
    return Annotation(name, Box(x, 0, x + 40, 40)), Detection(name, 0.9 - number / 10, (x, 0.0, x + 40, 40.0))


pairs = [face(number, name) for number, name in enumerate(CLASSES)]
labels, detections = zip(*pairs)
image = ImageResult("a.jpg", 200, 100, labels, detections)
split = score_split(boxes_table([image]))

assert confusion_matrix([image], 0.5).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
assert set(average_precisions(split)) == set(rates_at_confidence(split, 0.5)) == {"all", *CLASSES}
assert average_precisions(split)["worn_incorrectly"]["map50"].value > 0.99
assert {one.name for one in cells(split, [image], ["s"], 0.5)} >= set(CLASSES)

assert yolo.labels_from(yolo.lines(labels, 200, 100), 200, 100)[2].name == "worn_incorrectly"
assert len(set(CLASS_COLORS.values())) == len(set(CHART_COLORS.values())) == len(_colored(CLASSES)) == 3

rules = FaceRules(0.25, 640)
outcomes = [one.outcome for one in classify_faces(detections, rules, 200, 100)]
assert outcomes == [0, 1, 2] and samples.UNKNOWN == 3, "a class is not taken for an unknown face"
assert classify_reference([image], rules).outcome.tolist() == [0, 1, 2]
"""


def test_a_third_class_is_counted_drawn_and_written() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
