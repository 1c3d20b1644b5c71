"""How well copies of photographs are tied to each other, measured through builds: planted copies and real sources.

    python bench/split_leaks.py --archives FOLDER        # with the archives of the five sources in it
    python bench/split_leaks.py --archives FOLDER --images 200 --only planted pairs --work FOLDER

Writes bench/results/split_leaks.json, contact sheets beside the working folder's ensembles, and prints the figures:

    planted    share of planted copies that share a split with their original, by kind and strength of the change
    pairs      the same for pairs of kinds, at middle strength
    exports    exporters' versions (rotations, crops, light): source images whose versions are in several splits
    overlays   images under one watermark or one app's frame that are tied although they share nothing else
    real       of the five sources, split 80 / 10 / 10: images of val and test with a twin in train, by a check of its
               own (SIFT at 512 px, OpenCV's matcher and RANSAC, 25 points under one similarity), which no build uses

Everything is measured by `build`, once as it is and once without local features, as far as it has them. A copy counts
as tied if it and its original can never be in different splits: merged, or in one split group. Only one copy of an
image is in a build at a time, so that no copy is found through another.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from image_changes import CHANGES, STRENGTHS, ImageArray, changed_twice, exported, one_app_frame, one_watermark, resized

from facemask_train.core.contact_sheet import Tile, TileSection, save_contact_sheet
from facemask_train.core.drawing import open_upright
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates
from facemask_train.dataset.build import build
from facemask_train.sources.fetch import fetch
from helpers.copies import encoded

SEED = 0
SOURCES: dict[str, dict[str, Any]] = {
    "andrewmvd": {
        "path": "face-mask-detection.zip",
        "format": "voc",
        "classes": {"with_mask": "mask", "without_mask": "no_mask", "mask_weared_incorrect": "worn_incorrectly"},
    },
    "aditya276": {
        "path": "face-mask-dataset-yolo-format.zip",
        "format": "yolo",
        "classes": {"mask": "mask", "no_mask": "no_mask"},
    },
    "jolignier": {
        "path": "jolignier.zip",
        "format": "voc",
        "classes": {"with_mask": "mask", "without_mask": "no_mask", "with_incorrect_mask": "worn_incorrectly"},
    },
    "martinjack": {"path": "martinjack.zip", "format": "yolo", "classes": {"mask": "mask", "nomask": "no_mask"}},
    "muhammad": {"path": "muhammad.zip", "format": "yolo", "classes": {"mask": "mask", "no-mask": "no_mask"}},
}
PARTS = ("planted", "pairs", "exports", "overlays", "real")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, required=True, help="a folder; archives are looked for below it")
    parser.add_argument("--images", type=int, default=2000, help="images to plant copies of")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--work", type=Path, help="a folder to keep (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "split_leaks.json")
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments.work or Path(temporary), arguments.archives, WorkerPool(workers=arguments.workers))
        found = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
        for part in arguments.only:
            started = time.perf_counter()
            found[part] = {
                "images": arguments.images,
                **getattr(bench, part)(arguments.images),
                "seconds": round(time.perf_counter() - started),
            }
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def methods() -> dict[str, dict[str, Any]]:
    """Return the settings of the builds to compare."""
    if "local_features" not in Duplicates.model_fields:
        return {"hashes": {}}
    return {"hashes": {"duplicates": {"local_features": False}}, "hashes and local features": {}}


class Bench:
    """The sources in a working folder, and the builds made of them."""

    def __init__(self, root: Path, archives: Path, pool: WorkerPool) -> None:
        self.root, self.pool = root, pool
        self.sources = {
            name: {**source, "path": str(next(archives.rglob(source["path"])).resolve())}
            for name, source in SOURCES.items()
        }
        self._write_sources()
        fetch(root, list(SOURCES))

    def _write_sources(self) -> None:
        path = self.root / "configs" / "sources.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"sources": self.sources}))

    def files(self) -> list[Path]:
        """Return the sources' images in an order of chance, without exact copies and exporters' versions."""
        paths = sorted((self.root / "data" / "raw").glob("*/files/**/*"))
        chosen = [
            path for path in paths if path.suffix.lower() in (".jpg", ".png", ".jpeg") and ".rf." not in path.name
        ]
        chosen = [path for path in chosen if path.relative_to(self.root / "data/raw").parts[0] in SOURCES]
        Random(SEED).shuffle(chosen)
        return chosen

    def plant(self, name: str, images: Iterable[tuple[str, ImageArray]], quality: int = 85) -> None:
        """Make a source of images by their stems, each with one face in the middle."""
        folder = self.root / "plants" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "classes.txt").write_text("mask\n")
        for stem, image in images:
            (folder / f"{stem}.jpg").write_bytes(encoded(image, quality))
            (folder / f"{stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        self.sources[name] = {"path": str(folder), "format": "yolo", "classes": {"mask": "mask"}}
        self._write_sources()
        fetch(self.root, [name])

    def build(self, sources: Sequence[str], settings: Mapping[str, Any], name: str = "bench") -> Path:
        recipe = self.root / "configs" / "ensembles" / f"{name}.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        split = {"train": 0.8, "val": 0.1, "test": 0.1}
        recipe.write_text(yaml.safe_dump({"sources": list(sources), "split": split, **settings}))
        return build(self.root, str(recipe), pool=self.pool).path

    def ties(self, sources: Sequence[str], settings: Mapping[str, Any]) -> DisjointSet:
        return ties_of(self.build(sources, settings))

    # ---- planted copies ----

    def planted(self, count: int) -> dict[str, Any]:
        paths = self.files()
        originals, others = paths[:count], paths[count : count + 300]
        self.plant("originals", ((f"i{number}", read(path)) for number, path in enumerate(originals)), 95)
        fillers = [read(path) for path in others]
        found = {
            f"{kind} {strength}": self._recall([partial(CHANGES[kind], strength=strength)] * count, originals, fillers)
            for kind, strengths in STRENGTHS.items()
            for strength in strengths
        }
        return {"recall": found}

    def pairs(self, count: int) -> dict[str, Any]:
        """Plant a copy of each image with one of the pairs of kinds, in turn."""
        paths = self.files()
        originals, others = paths[:count], paths[count : count + 300]
        self.plant("originals", ((f"i{number}", read(path)) for number, path in enumerate(originals)), 95)
        kinds = list(combinations(STRENGTHS, 2))
        changes = [partial(changed_twice, kinds=kinds[number % len(kinds)]) for number in range(count)]
        return {"pairs of kinds": len(kinds), **self._recall(changes, originals, [read(path) for path in others])}

    def _recall(
        self, changes: Sequence[Callable[..., ImageArray]], originals: Sequence[Path], fillers: Sequence[ImageArray]
    ) -> dict[str, Any]:
        """Return the share of changed images that are tied to their original, and how many are tied to another."""
        rng = Random(SEED)
        made = (
            (f"c{number}", change(read(path), rng=rng, fillers=fillers))
            for number, (change, path) in enumerate(zip(changes, originals, strict=True))
        )
        name = "changed"
        self.plant(name, made)
        count, found = len(originals), {}
        for method, settings in methods().items():
            alone, tied = self.ties(["originals"], settings), self.ties(["originals", name], settings)
            mine = [tied.connected(f"originals/i{one}.jpg", f"{name}/c{one}.jpg") for one in range(count)]
            found[method] = {"recall": round(sum(mine) / count, 4), "ties between originals": joined(alone, tied)}
        return found

    # ---- exporters' versions ----

    def exports(self, count: int) -> dict[str, Any]:
        """Write three versions of each of 60 images, as exporters do, and count those in several splits."""
        rng = np.random.default_rng(SEED)
        number = min(60, count)
        versions = [
            (f"photo{image}_jpg.rf.{rng.bytes(16).hex()}", exported(picture, rng))
            for image, picture in enumerate(map(read, self.files()[:number]))
            for _ in range(3)
        ]
        self.plant("exported", versions)
        found = {}
        for method, settings in methods().items():
            tied = self.ties(["exported"], settings)
            groups = [[f"exported/{stem}.jpg" for stem, _ in versions[3 * one : 3 * one + 3]] for one in range(number)]
            apart = sum(len({tied[name] for name in group}) > 1 for group in groups)
            found[method] = {"source images": number, "with versions that can be in different splits": apart}
        return found

    # ---- what unrelated images have in common ----

    def overlays(self, count: int) -> dict[str, Any]:
        number = min(1000, count)
        pictures = [read(path) for path in self.files()[:number]]
        found: dict[str, Any] = {}
        self.plant("bare", ((f"i{one}", resized(image)) for one, image in enumerate(pictures)))
        for name, overlay in (("watermark", one_watermark), ("app frame", one_app_frame)):
            source = name.replace(" ", "-")
            self.plant(source, ((f"i{one}", overlay(resized(image))) for one, image in enumerate(pictures)))
            for method, settings in methods().items():
                bare, tied = self.ties(["bare"], settings), self.ties([source], settings)
                names = [f"i{one}.jpg" for one in range(number)]
                sets = len({tied[f"{source}/{one}"] for one in names})
                wrong = len({bare[f"bare/{one}"] for one in names}) - sets
                found.setdefault(name, {})[method] = {"images": number, "wrong ties": wrong}
        return found

    # ---- real sources ----

    def real(self, _: int) -> dict[str, Any]:
        found = {}
        for method, settings in methods().items():
            started = time.perf_counter()
            name = "five-" + method.replace(" ", "-")
            folder = self.build(list(SOURCES), settings, name)
            seconds = time.perf_counter() - started
            sizes = Counter(pd.read_parquet(folder / "manifest.parquet")["split_group"])
            found[method] = {
                "seconds": round(seconds, 1),
                "largest split groups": [size for _, size in sizes.most_common(8)],
                **twins(folder, self.root / f"{name}-twins"),
            }
        return found


def ties_of(folder: Path) -> DisjointSet:
    """Return the published images of an ensemble, as SOURCE/PATH, in sets that share a split or are merged."""
    manifest = pd.read_parquet(folder / "manifest.parquet")
    groups, issues = pd.read_parquet(folder / "groups.parquet"), pd.read_parquet(folder / "issues.parquet")
    tied = DisjointSet(f"{source}/{path}" for source, path in zip(issues["source"], issues["image"], strict=True))
    for table, key in ((manifest, "split_group"), (groups, "group")):
        for _, rows in table.groupby(key):
            names = [f"{one}/{path}" for one, path in zip(rows["source"], rows["source_image"], strict=True)]
            for one in names:
                tied.add(one)
                tied.merge(names[0], one)
    return tied


def joined(alone: DisjointSet, tied: DisjointSet) -> int:
    """Return how many sets of originals the copies have tied to each other."""
    sets = [{alone[one] for one in group if one.startswith("originals/")} for group in tied.subsets()]
    return sum(max(0, len(group) - 1) for group in sets)


def read(path: Path) -> ImageArray:
    return np.asarray(open_upright(path).convert("RGB"))


# ---- the check that no build uses ----

LEAST_POINTS, _SIDE, _POINTS, _CANDIDATES = 25, 512, 500, 25


def twins(folder: Path, sheets: Path) -> dict[str, Any]:
    """Find images of val and test with a twin in train, and draw each pair on contact sheets."""
    manifest = pd.read_parquet(folder / "manifest.parquet")
    manifest = manifest[manifest["copy"] == ""].reset_index(drop=True)
    described = [described_image(folder / image) for image in manifest["image"]]
    train = np.flatnonzero(manifest["split"] == "train")
    rest = np.flatnonzero(manifest["split"] != "train")
    found = []
    for place, candidates in zip(rest, nearest_images(described, rest, train), strict=True):
        counts = [(agreeing(described[place], described[other]), other) for other in candidates]
        best, twin = max(counts, default=(0, 0))
        if best >= LEAST_POINTS:
            found.append((int(best), int(place), int(twin)))
    found.sort(reverse=True)
    draw_twins(folder, manifest, found, sheets)
    names = manifest["source"] + "/" + manifest["source_image"]
    return {
        "val and test images": len(rest),
        "with a twin in train": len(found),
        "twins": [{"points": points, "image": names[one], "twin": names[other]} for points, one, other in found],
    }


def described_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the SIFT points, (n, 2), and descriptors, (n, 128), of an image of at most 512 px."""
    shown = np.asarray(open_upright(path).convert("L"))
    factor = min(1.0, _SIDE / max(shown.shape))
    points, descriptors = cv2.SIFT.create(_POINTS).detectAndCompute(
        cv2.resize(shown, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), None
    )
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    return np.array([one.pt for one in points], np.float32), descriptors


def nearest_images(described: Sequence[Any], rest: np.ndarray, train: np.ndarray) -> Iterator[list[int]]:
    """Yield for each image of `rest` those of `train` that hold most of its features' nearest neighbors."""
    import faiss

    index = faiss.index_factory(128, "IVF1024,SQ8")
    stacked = np.concatenate([described[place][1] for place in train])
    owner = np.repeat(train, [len(described[place][1]) for place in train])
    index.train(stacked[:: max(1, len(stacked) // 100_000)])
    index.add(stacked)
    index.nprobe = 12
    for place in rest:
        if not len(described[place][1]):
            yield []
            continue
        _, found = index.search(described[place][1], 5)
        votes = Counter(owner[found[found >= 0]].tolist())
        yield [image for image, _ in votes.most_common(_CANDIDATES)]


def agreeing(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> int:
    """Return how many matches lie under one similarity."""
    if min(len(one[1]), len(other[1])) < 2:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(one[1], other[1], k=2)
    good = [first for first, second in pairs if first.distance < 0.75 * second.distance]
    good = list({match.trainIdx: match for match in good}.values())
    if len(good) < LEAST_POINTS:
        return 0
    cv2.setRNGSeed(SEED)
    here, there = (np.array([one[0][m.queryIdx] for m in good]), np.array([other[0][m.trainIdx] for m in good]))
    _, inside = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=4, maxIters=3000)
    return 0 if inside is None else int(inside.sum())


def draw_twins(folder: Path, manifest: pd.DataFrame, found: Sequence[tuple[int, int, int]], sheets: Path) -> None:
    tiles = []
    for points, one, other in found:
        pair = [cv2.resize(read(folder / manifest["image"][place]), (240, 240)) for place in (one, other)]
        note = f"{manifest['source'][one]} {Path(manifest['source_image'][one]).stem[:18]}"
        tiles.append(Tile(Image.fromarray(np.concatenate(pair, axis=1)), f"{len(tiles)}: {points} points", note))
    for start in range(0, len(tiles), 24):
        section = TileSection("", tiles[start : start + 24])
        path = sheets / f"{start // 24}.jpg"
        save_contact_sheet(path, [section], title="Twins between splits", tile_size=(480, 240), columns=3)


if __name__ == "__main__":
    main()
