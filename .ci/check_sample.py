"""Check the result of the sample pipeline: enough test images, and a detector that has learned."""

import json
import sys
from pathlib import Path

found = [json.loads(path.read_text()) for path in Path(sys.argv[1]).glob("runs/*/evaluation/sample-test/metrics.json")]
assert len(found) == 1, f"expected one evaluation, found {len(found)}"
score = found[0]
assert score["images"] >= 60, f"expected 60 test images or more, found {score['images']}"
assert score["map50"] >= 0.8, f"expected mAP 0.5 of 0.8 or more, found {score['map50']}"
for name, row in score["per_class"].items():
    assert row["map50"] >= 0.7, f"expected mAP 0.5 of 0.7 or more for {name}, found {row['map50']}"
