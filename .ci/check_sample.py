"""Hold the sample walk to what the README says of it: enough test pictures, and a detector that has learnt."""

import json
import sys
from pathlib import Path

found = [json.loads(path.read_text()) for path in Path(sys.argv[1]).glob("runs/*/evaluation/sample-test/metrics.json")]
assert len(found) == 1, f"expected one evaluation, found {len(found)}"
print(json.dumps({key: found[0].get(key) for key in ("images", "boxes", "map50", "per_class")}, indent=1))
