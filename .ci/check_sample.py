"""Check the result of the sample pipeline: enough test images, and a detector that has learned.

The lowest scores allowed lie 10 points below the lowest of the runs that `bench/learning.py` recorded.
"""

import json
import sys
from pathlib import Path

bar = json.loads((Path(__file__).parents[1] / "bench/results/learning.json").read_text())["bar"]
found = [json.loads(path.read_text()) for path in Path(sys.argv[1]).glob("runs/*/evaluation/sample-test/metrics.json")]
assert len(found) == 1, f"expected one evaluation, found {len(found)}"
score = found[0]
assert score["images"] >= 60, f"expected 60 test images or more, found {score['images']}"
assert score["map50"] >= bar["map50"], f"expected mAP 0.5 of {bar['map50']} or more, found {score['map50']}"
lowest = bar["map50 of a class"]
for name, row in score["per_class"].items():
    assert row["map50"] >= lowest, f"expected mAP 0.5 of {lowest} or more for {name}, found {row['map50']}"
