"""How well copies are found, similar images are kept, and splits are separated, on real archives.

    python bench/duplicates.py --archives FOLDER      # with the archives of andrewmvd and aditya276

Writes bench/results/duplicates.json, and prints it. It measures:

    splits     v5 as built compared with plain random splits of the same records, with a hash that the build does not
               use: a difference hash of 256 bits, compared in 8 orientations; near means 16 bits or less
    excluded   images of v5 that are near (by the same measure) an image with a mask worn incorrectly
    copies     recall of planted copies of real images at each severity, each in a random orientation
    moments    how often another moment of a scene (one labeled face moved and mirrored) is mistaken for the same image,
               by the share of the image that the face covers
    walls      how often plain walls with uneven lighting and noise are mistaken for the same image
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from facemask_train.core.boxes import inverse
from facemask_train.core.drawing import open_upright
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates
from facemask_train.core.records import to_json
from facemask_train.dataset.build import build
from facemask_train.dataset.grouping.duplicates import Pair, find_pairs
from facemask_train.dataset.grouping.hashing import ORIENTATIONS, SIDE, hash_image, orient_image, stack_hashes
from facemask_train.sources.fetch import fetch
from helpers.copies import copy_of, moment, wall

SEED, IMAGES, NEAR = 0, 400, 16
SEVERITIES = {
    "re-encoded at quality 30": {"quality": 30},
    "re-encoded at quality 60": {"quality": 60},
    "re-encoded at quality 95": {"quality": 95},
    "rescaled by 0.25": {"scale": 0.25},
    "rescaled by 0.5": {"scale": 0.5},
    "rescaled by 2": {"scale": 2.0},
    "cropped by 1 % a side": {"crop": 0.01},
    "cropped by 2 % a side": {"crop": 0.02},
    "cropped by 2 %, rescaled by 0.25, quality 30": {"crop": 0.02, "scale": 0.25, "quality": 30},
    "cropped by 2 %, rescaled by 2, quality 50": {"crop": 0.02, "scale": 2.0, "quality": 50},
    "cropped by 3 % a side (beyond the requirement)": {"crop": 0.03},
    "cropped by 5 % a side (beyond the requirement)": {"crop": 0.05},
}
PLAIN = {"crop": 0.0, "scale": 1.0, "quality": 85}
AREAS = (0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "duplicates.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fetch(root, ["andrewmvd", "aditya276"], origin=arguments.archives)
        card = build(root, "5").card
        ensemble = pd.read_parquet(root / "data/ensembles/v5/manifest.parquet")
        issues = pd.read_parquet(root / "data/ensembles/v5/issues.parquet")
        found: dict[str, Any] = {
            "overlap": card.overlap,
            "groups": to_json(card.groups),
            "agreement": [to_json(one) for one in card.agreement],
            "splits": splits(root, ensemble, issues),
            "excluded": excluded(root, ensemble, issues),
        }
        chosen = ensemble.sort_values("sha256").head(IMAGES)
        images = [np.asarray(open_upright(_file(root, row))) for _, row in chosen.iterrows()]
        found |= {"copies": copies(images), "moments": moments(images, chosen), "walls": walls()}
    text = json.dumps(found, indent=1)
    arguments.out.write_text(text + "\n")
    print(text)


def _file(root: Path, row: Any) -> Path:
    return Path(root, "data/raw", row["source"], "files", row["source_image"])


# ---- splits, by another hash ----


def difference_hash(path: Path) -> np.ndarray:
    """Return an image's hash in 8 orientations, (8, 32) bytes: is each of 16 x 16 cells brighter than the next?"""
    gray = np.asarray(open_upright(path).convert("L"))
    small = [
        cv2.resize(np.ascontiguousarray(orient_image(gray, way)), (17, 16), interpolation=cv2.INTER_AREA)
        for way in ORIENTATIONS
    ]
    return np.array([np.packbits(one[:, 1:] > one[:, :-1]) for one in small])


def near(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of `some` are near which of `others`, in any orientation."""
    distance = np.full((len(some), len(others)), 256)
    for way in ORIENTATIONS:
        for number, one in enumerate(some[:, way]):
            distance[number] = np.minimum(distance[number], np.bitwise_count(one ^ others[:, 0]).sum(axis=1))
    return distance <= NEAR


def splits(root: Path, ensemble: pd.DataFrame, issues: pd.DataFrame) -> dict[str, Any]:
    """Compare the share of val and test that is near an image of train: as built, and in plain random splits."""
    gone = issues[(issues["item"] == "image") & (issues["cause"] == "copy")]
    merged = gone.rename(columns={"image": "source_image"})[["source", "source_image"]]
    records = pd.concat([ensemble[["source", "source_image", "split"]], merged.assign(split="")], ignore_index=True)
    hashes = np.array([difference_hash(_file(root, row)) for _, row in records.iterrows()])
    alike = near(hashes, hashes)
    rng = np.random.default_rng(SEED)
    random = [leaked(alike, rng.choice(["train", "val", "test"], len(records), p=[0.85, 0.1, 0.05])) for _ in range(20)]
    return {
        "near at bits": NEAR,
        "as built": leaked(alike, records["split"].to_numpy()),
        "20 random splits of the same records, copies included": {
            part: {
                key: round(float(value), 4)
                for key, value in zip(
                    ("mean share", "lowest", "highest"),
                    (np.mean(shares), np.min(shares), np.max(shares)),
                    strict=True,
                )
            }
            for part in ("val", "test")
            for shares in [[one[part]["share"] for one in random]]
        },
    }


def leaked(alike: np.ndarray, split: np.ndarray) -> dict[str, Any]:
    found = {}
    for part, earlier in (("val", ["train"]), ("test", ["train", "val"])):
        leaks = alike[np.ix_(split == part, np.isin(split, earlier))].any(axis=1)
        found[part] = {"images": len(leaks), "near": int(leaks.sum()), "share": float(leaks.mean())}
    return found


def excluded(root: Path, ensemble: pd.DataFrame, issues: pd.DataFrame) -> dict[str, int]:
    worn = issues[(issues["item"] == "image") & (issues["cause"] == "worn-incorrectly")]
    worn = worn.rename(columns={"image": "source_image"})
    bad = np.array([difference_hash(_file(root, row)) for _, row in worn.iterrows()])
    good = np.array([difference_hash(_file(root, row)) for _, row in ensemble.iterrows()])
    return {"with a mask worn incorrectly": len(bad), "near one, in a split": int(near(good, bad).any(axis=1).sum())}


# ---- planted truth ----


def pairs_of(images: list[np.ndarray]) -> list[Pair]:
    prints = [hash_image(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)) for image in images]
    thumbnails = [np.frombuffer(one.thumbnail, np.uint8).reshape(SIDE, SIDE) for one in prints]
    digests = [str(number) for number in range(len(images))]
    return find_pairs(
        stack_hashes([one.hash for one in prints]),
        thumbnails.__getitem__,
        digests,
        Duplicates(),
        pool=WorkerPool(workers=1),
    )


def copies(images: list[np.ndarray]) -> dict[str, Any]:
    alone = {(pair.first, pair.second) for pair in pairs_of(images) if pair.same}
    found = {}
    for name, change in SEVERITIES.items():
        rng = Random(f"{SEED} {name}")
        ways = [rng.choice(ORIENTATIONS) for _ in images]
        made = [copy_of(one, rng, **(PLAIN | change), orientation=way) for one, way in zip(images, ways, strict=True)]
        pairs = {(pair.first, pair.second): pair for pair in pairs_of(images + made)}
        mine = [pairs.get((number, number + len(images))) for number in range(len(images))]
        same = [pair for pair in mine if pair is not None and pair.same]
        wrong = {
            (one % len(images), other % len(images))
            for (one, other), pair in pairs.items()
            if pair.same and one % len(images) != other % len(images)
        } - alone
        found[name] = {
            "planted": len(images),
            "same": len(same),
            "recall": round(len(same) / len(images), 4),
            "near-duplicates only (one split, both kept)": sum(pair is not None and not pair.same for pair in mine),
            "orientation right": sum(pair.orientation == inverse(ways[pair.first]) for pair in same),
            "wrong pairs": len(wrong),
        }
    return found


def moments(images: list[np.ndarray], rows: pd.DataFrame) -> dict[str, Any]:
    """Move one face of each image, three times, and count what is mistaken for the same image."""
    made = list(_moments(images, rows))
    found = {}
    for low, high in pairwise(AREAS):
        these = [(one, other) for area, one, other in made if low <= area < high]
        pairs = [pairs_of([one, other]) for one, other in these]
        found[f"{low:.1%} to {high:.1%} of the image"] = {
            "moments": len(these),
            "taken for the same": sum(bool(pair) and pair[0].same for pair in pairs),
            "near-duplicates (one split, both kept)": sum(bool(pair) and not pair[0].same for pair in pairs),
        }
    return found


def _moments(images: list[np.ndarray], rows: pd.DataFrame) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    rng = Random(SEED)
    for image, labels in zip(images, rows["labels"], strict=True):
        for label in rng.sample(list(labels), min(3, len(labels))):
            box = tuple(label[key] for key in ("x_min", "y_min", "x_max", "y_max"))
            if min(box[2] - box[0], box[3] - box[1]) >= 6:
                area = (box[2] - box[0]) * (box[3] - box[1]) / (image.shape[0] * image.shape[1])
                yield area, image, moment(image, box, rng)


def walls() -> dict[str, int]:
    pairs = pairs_of([wall(seed) for seed in range(200)])
    return {"walls": 200, "pairs taken for the same": sum(pair.same for pair in pairs)}


if __name__ == "__main__":
    main()
