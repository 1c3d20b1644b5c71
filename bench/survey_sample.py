"""`fmask survey` end to end, with the sample's trained model, on scenes with known rates.

    python bench/survey_sample.py WORK [--repeats 8] [--scenes 40]

WORK is a folder; the sample is built, trained and evaluated in it if necessary (`fmask pipeline --sample`).

First, the sample's own test scenes, in four groups by the share of masked faces in their labels; the detector's errors
are those on the val split, so that no scene is used to correct itself. Then new scenes of the same kind, `--scenes` in
each bin, in which people wear masks at a known rate, with errors as measured on the test split. Each is one call of
`fmask survey` on files, with the bins as places. Writes `survey_sample.json` and prints the tables of `README.md`.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from facemask_train.core.parallel import usable_cores
from facemask_train.eval import detections_table
from facemask_train.sources.sample.scenes import draw_scene

RUN = "sample-yolov5n"
RATES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
KINDS = ("mask", "no_mask")


class Loaded(Random):
    """A generator that draws masks at a known rate."""

    def __init__(self, seed: int, rate: float) -> None:
        super().__init__(seed)
        self.rate = rate

    def choice(self, seq: Any) -> Any:
        if tuple(seq) == KINDS:
            return KINDS[self.random() >= self.rate]
        return super().choice(seq)


def fmask(*words: str) -> dict[str, Any]:
    """Run a command, and return its result."""
    command = [sys.executable, "-m", "facemask_train", *words, "--json", "--quiet"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def prepared(work: Path) -> None:
    """Build, train and evaluate the sample if necessary."""
    if not (work / "runs" / RUN / "evaluation" / "sample-test" / "metrics.json").is_file():
        fmask("pipeline", "--sample", "--root", str(work), "--tracker", "none")
    fmask("evaluate", RUN, "--split", "val", "--no-audit", "--root", str(work), "--tracker", "none")


def own_scenes(work: Path) -> list[dict[str, Any]]:
    """Survey the test scenes, in groups by their labels."""
    images = detections_table.read_images(work / "runs" / RUN / "evaluation" / "sample-test")
    counted = {one.image: [sum(face.name == name for face in one.labels) for name in KINDS] for one in images}
    with_faces = sorted((image for image in counted if sum(counted[image])), key=lambda image: _share(counted[image]))
    quarter = -(-len(with_faces) // 4)
    groups = {image: f"quarter {number // quarter + 1}" for number, image in enumerate(with_faces)}
    places = work / "own.csv"
    with places.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("file", "place"), *((Path(image).name, place) for image, place in groups.items())]
        )
    folder = work / "data" / "ensembles" / "sample" / "images" / "test"
    printed = fmask(
        "survey", str(folder), "--run", RUN, "--split", "val", "--by", "all",
        "--places", str(places), "--root", str(work),
    )  # fmt: skip
    rows = []
    for one in (one for one in printed["bins"] if one["place"]):
        faces = [counted[image] for image, place in groups.items() if place == one["place"]]
        truth = sum(face[0] for face in faces) / sum(map(sum, faces))
        rows.append(_row(one, truth, truth) | {"faces": sum(map(sum, faces))})
    return rows


def _share(counts: Sequence[int]) -> float:
    return counts[0] / sum(counts)


def new_scenes(work: Path, repeats: int, scenes: int) -> list[dict[str, Any]]:
    """Survey new scenes in which people wear masks at known rates."""
    home, truth = work / "scenes", {}
    for rate in RATES:
        for repeat in range(repeats):
            place = f"{round(100 * rate):02d}-{repeat}"
            folder = home / place
            folder.mkdir(parents=True, exist_ok=True)
            rng = Loaded(round(1e6 * rate) + repeat, rate)
            drawn = []
            for number in range(scenes):
                scene = draw_scene(rng)
                Image.fromarray(scene.image).save(folder / f"{number:04d}.jpg", quality=90)
                drawn += [face.kind == "mask" for face in scene.faces]
            truth[place] = (rate, sum(drawn) / len(drawn), len(drawn))
    printed = fmask(
        "survey", str(home), "--run", RUN, "--by", "all", "--pattern", "{place}/*", "--root", str(work),
    )  # fmt: skip
    return [
        _row(one, truth[one["place"]][0], truth[one["place"]][1]) | {"faces": truth[one["place"]][2]}
        for one in printed["bins"]
    ]


def _row(one: Mapping[str, Any], rate: float, share: float) -> dict[str, Any]:
    """Return a bin with its true values: the rate with which its faces were drawn, and their share."""
    keys = ("place", "rate", "interval", "uncorrected", "uncorrected_interval", "n", "images")
    held = {name: bool(one[name][0] <= rate <= one[name][1]) for name in ("interval", "uncorrected_interval")}
    return {**{key: one[key] for key in keys}, "true_rate": rate, "true_share": round(share, 6), "held": held}


def table(rows: Sequence[Mapping[str, Any]], by: str) -> str:
    """Return rows as Markdown, grouped by their true rate."""
    lines = [
        "| truth | bins | faces a bin | error uncorrected, points | error corrected | interval contains it | "
        "mean width | uncorrected interval contains it |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for value in dict.fromkeys(row[by] for row in rows):
        own = [row for row in rows if row[by] == value]
        many = len(own)
        off = [sum(row[key] - row["true_rate"] for row in own) / many * 100 for key in ("uncorrected", "rate")]
        wide = sum(row["interval"][1] - row["interval"][0] for row in own) / many * 100
        held = [sum(row["held"][name] for row in own) for name in ("interval", "uncorrected_interval")]
        faces = sum(row["faces"] for row in own) / many
        lines.append(
            f"| {100 * value:.0f} % | {many} | {faces:.0f} | {off[0]:+.1f} | {off[1]:+.1f} | {held[0]} of {many} | "
            f"{wide:.0f} | {held[1]} of {many} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=40)
    given = parser.parse_args()
    prepared(given.work)
    own, new = own_scenes(given.work), new_scenes(given.work, given.repeats, given.scenes)
    result = {
        "command": f"python bench/survey_sample.py WORK --repeats {given.repeats} --scenes {given.scenes}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "own": own,
        "new": new,
        "held": sum(row["held"]["interval"] for row in new) / len(new),
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(table(own, "true_rate") + "\n\n" + table(new, "true_rate") + "\n")


if __name__ == "__main__":
    main()
