"""How well changed copies of photographs are linked, and what a split leaks that links did not see.

    python bench/leaks.py --archives FOLDER [FOLDER ...] [--images 200]      # folders with zips of images
    python bench/leaks.py --archives FOLDER --ensemble data/ensembles/v5     # also checks a built ensemble

Writes bench/results/leaks.json, and prints it. It measures:

    planted     recall by kind of change: of copies linked as one photograph, of those that share a split, and of those
                that the hash alone ties; and how many links connect two different photographs
    residual    images of an ensemble's val and test with a match in train, by SIFT points in full resolution, a
                brute-force search, OpenCV's matcher and its RANSAC: no code of the package, and no threshold of it
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates
from facemask_train.dataset.grouping.duplicates import find_pairs
from facemask_train.dataset.grouping.hashing import SIDE, stack_hashes
from facemask_train.dataset.linking.feature_store import feature_store
from facemask_train.dataset.linking.links import StoredImages, find_links
from facemask_train.dataset.loading.images import examine

Image = np.ndarray
SUFFIXES = (".jpg", ".jpeg", ".png")
RATIO, POINTS, TOLERANCE, STRONGEST, NEAREST = 0.75, 25, 4.0, 60, 4


def cropped(image: Image, share: float, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    down, across = (max(16, round(side * share**0.5)) for side in (height, width))
    top, left = int(rng.integers(0, height - down + 1)), int(rng.integers(0, width - across + 1))
    return np.ascontiguousarray(image[top : top + down, left : left + across])


def turned(image: Image, degrees: float) -> Image:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height))


def framed(image: Image) -> Image:
    side = max(image.shape[:2]) // 8
    return cv2.copyMakeBorder(image, side, side, side, side, cv2.BORDER_CONSTANT, value=(240, 240, 240))


def captioned(image: Image) -> Image:
    made = image.copy()
    made[-max(8, image.shape[0] // 6) :] = 0
    cv2.putText(made, "a caption of the news", (6, image.shape[0] - 6), 0, 0.6, (255, 255, 255), 1)
    return made


def marked(image: Image) -> Image:
    made = image.copy()
    for y in range(30, image.shape[0], 70):
        cv2.putText(made, "STOCK   STOCK   STOCK", (5, y), 0, 0.8, (230, 230, 230), 2)
    return cv2.addWeighted(image, 0.5, made, 0.5, 0)


def collage(image: Image, others: list[Image]) -> Image:
    cells = [cv2.resize(one, (300, 225)) for one in (others[0], image, others[1], others[2])]
    return np.vstack([np.hstack(cells[:2]), np.hstack(cells[2:])])


def compressed(image: Image, quality: int) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def noisy(image: Image, rng: np.random.Generator) -> Image:
    return np.clip(image + rng.normal(0, 15, image.shape), 0, 255).astype(np.uint8)


def stretched(image: Image) -> Image:
    return cv2.resize(image, (max(image.shape[:2]),) * 2)


def resized(image: Image, side: int) -> Image:
    scale = side / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


Change = Callable[[Image, np.random.Generator, list[Image]], Image]
KINDS: dict[str, Change] = {
    **{f"crop to {share} %": lambda i, r, _, s=share: cropped(i, s / 100, r) for share in (90, 70, 50, 40, 30)},
    **{f"rotation by {angle}": lambda i, *_, a=angle: turned(i, a) for angle in (1, 5, 15, 30, 45)},
    "stretch to a square": lambda i, *_: stretched(i),
    "flip": lambda i, *_: np.ascontiguousarray(i[:, ::-1]),
    "frame": lambda i, *_: framed(i),
    "caption": lambda i, *_: captioned(i),
    "collage of four": lambda i, _, others: collage(i, others),
    "watermark": lambda i, *_: marked(i),
    "gray": lambda i, *_: cv2.cvtColor(cv2.cvtColor(i, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    "gamma 1.8": lambda i, *_: (255 * (i / 255) ** 1.8).astype(np.uint8),
    "blur, sigma 2": lambda i, *_: cv2.GaussianBlur(i, (0, 0), 2),
    "noise, sigma 15": lambda i, r, _: noisy(i, r),
    "JPEG 20": lambda i, *_: compressed(i, 20),
    "resize to 160": lambda i, *_: resized(i, 160),
    "crop to 50 %, rotation by 15": lambda i, r, _: turned(cropped(i, 0.5, r), 15),
    "crop to 50 %, JPEG 20": lambda i, r, _: compressed(cropped(i, 0.5, r), 20),
    "rotation by 15, watermark": lambda i, *_: marked(turned(i, 15)),
    "flip, crop to 50 %": lambda i, r, _: np.ascontiguousarray(cropped(i, 0.5, r)[:, ::-1]),
    "stretch, resize to 160": lambda i, *_: resized(stretched(i), 160),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, nargs="+", required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--ensemble", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "leaks.json")
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    if arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            found["planted"] = planted(
                Path(folder), list(originals(arguments.archives, arguments.images)), arguments.workers
            )
    if arguments.ensemble:
        found["residual"] = residual(arguments.ensemble)
    text = json.dumps(found, indent=1)
    arguments.out.write_text(text + "\n")
    print(text)


def originals(folders: list[Path], count: int) -> Iterator[Image]:
    """Yield images of all archives, the first by the digest of their names."""
    names = []
    for path in sorted(path for folder in folders for path in folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            names += [(path, name) for name in archive.namelist() if PurePosixPath(name).suffix.lower() in SUFFIXES]
    names.sort(key=lambda one: hashlib.sha256(one[1].encode()).hexdigest())
    given = 0
    for path, name in names:
        with zipfile.ZipFile(path) as archive:
            image = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
        if image is not None and min(image.shape[:2]) >= 120:
            yield image
            given += 1
            if given == count:
                return


def planted(root: Path, images: list[Image], workers: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels: list[tuple[int, str]] = []
    for number, image in enumerate(images):
        others = [images[(number + step) % len(images)] for step in (1, 2, 3)]
        for kind, change in [("", None), *KINDS.items()]:
            made = image if change is None else change(image, rng, others)
            folder = root / ("copies" if kind else "originals")
            folder.mkdir(exist_ok=True)
            name = f"{list(KINDS).index(kind):02}-{number:04}.png" if kind else f"{number:04}.png"
            cv2.imwrite(str(folder / name), made)
    pool, began = WorkerPool(workers=workers), time.process_time()
    names, stores, examined, ranks = [], [], [], []
    for rank, source in enumerate(("originals", "copies")):
        paths = sorted(path.name for path in (root / source).iterdir())
        found = [examine(root / source, path) for path in paths]
        examined += found
        facts = [one.facts for one in found]
        stores.append(feature_store(root, source, root / source, facts, "planted", pool=pool))
        names += [(source, path) for path in paths]
        ranks += [rank] * len(paths)
        labels += [(int(path[-8:-4]), "" if rank == 0 else list(KINDS)[int(path[:2])]) for path in paths]
    hashes = stack_hashes([one.image_hash.hash for one in examined if one.image_hash])
    thumbnails = [
        np.frombuffer(one.image_hash.thumbnail, np.uint8).reshape(SIDE, SIDE) for one in examined if one.image_hash
    ]
    digests = [one.facts.sha256 for one in examined]
    pairs = find_pairs(hashes, thumbnails.__getitem__, digests, Duplicates(), pool=pool)
    hashed = time.process_time() - began
    links = find_links(StoredImages.of(stores, ranks, digests), names, [], pool=pool)
    return counted(labels, pairs, links) | {
        "images": len(images),
        "CPU milliseconds an image, of this process": round(1000 * (time.process_time() - began) / len(labels), 1),
        "of it without links": round(1000 * hashed / len(labels), 1),
    }


def counted(labels: list[tuple[int, str]], pairs: Any, links: Any) -> dict[str, Any]:
    found: dict[str, Counter[str]] = {"same": Counter(), "tied": Counter(), "hash": Counter()}
    wrong: Counter[str] = Counter()
    for one in links:
        (first, kind), (second, other) = labels[one.first], labels[one.second]
        if first != second and "collage of four" not in (kind, other):
            wrong[one.verdict] += 1
        if first == second and not kind:
            found["tied"][other] += 1
            found["same"][other] += one.verdict == "same"
    for pair in pairs:
        (first, kind), (second, other) = labels[pair.first], labels[pair.second]
        found["hash"][other] += first == second and not kind
    total = Counter(kind for _, kind in labels)
    return {
        "recall by kind: one photograph, one split, one split by hash alone": {
            kind: [round(found[key][kind] / total[kind], 3) for key in ("same", "tied", "hash")] for kind in KINDS
        },
        "links between different photographs, collages left out": dict(wrong),
    }


# ---- what a built ensemble leaks ----


def residual(ensemble: Path) -> dict[str, Any]:
    import faiss

    sift = cv2.SIFT_create(600)
    described: dict[str, dict[Path, Any]] = {}
    for split in ("train", "val", "test"):
        paths = sorted((ensemble / "images" / split).iterdir())
        described[split] = {path: sift.detectAndCompute(cv2.imread(str(path), 0), None) for path in paths}
    train = [path for path, (_, rows) in described["train"].items() if rows is not None]
    strongest = [described["train"][path][1][:STRONGEST] for path in train]
    owners = np.repeat(np.arange(len(train)), [len(rows) for rows in strongest])
    index = faiss.IndexFlatL2(128)
    index.add(np.concatenate(strongest))
    found: dict[str, Any] = {"ensemble": ensemble.name, "points": POINTS, "train": len(described["train"])}
    for split in ("val", "test"):
        twins = []
        for path, (points, rows) in described[split].items():
            if rows is None:
                continue
            _, hits = index.search(rows[:STRONGEST], NEAREST)
            best = Counter(owners[hits].ravel().tolist()).most_common(5)
            scores = [(agreeing(points, rows, *described["train"][train[one]]), train[one].name) for one, _ in best]
            if scores and max(scores)[0] >= POINTS:
                twins.append([path.name, max(scores)[1], max(scores)[0]])
        found[split] = {"images": len(described[split]), "with a match in train": len(twins), "matches": twins}
    return found


def agreeing(points: Any, rows: Any, others: Any, other_rows: Any) -> int:
    """Return how many matches agree with one similarity."""
    pairs = cv2.BFMatcher().knnMatch(rows, other_rows, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    if len(good) < POINTS:
        return 0
    source = np.float32([points[one.queryIdx].pt for one in good])
    target = np.float32([others[one.trainIdx].pt for one in good])
    cv2.setRNGSeed(0)
    _, inside = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=TOLERANCE)
    return 0 if inside is None else int(inside.sum())


if __name__ == "__main__":
    main()
