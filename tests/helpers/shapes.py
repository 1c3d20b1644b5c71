"""A tiny ensemble of coloured shapes, laid out as `build-dataset` leaves one, and a checkpoint trained on it."""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.model.ultralytics_compat import open_ultralytics
from helpers.cards import card_for

SIZE = (120, 90)
COLOURS = {"mask": "#2878d0", "no_mask": "#e08a28"}


def draw_ensemble(root: Path, *, name: str = "v5", counts: tuple[int, int, int] = (16, 4, 8), seed: int = 0) -> Path:
    """Write an ensemble of discs (mask) and squares (no_mask); some with two faces, some with none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root / "data" / "ensembles" / name
    rng = random.Random(seed)
    rows = []
    for split, count in zip(SPLITS, counts, strict=True):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            rows.append(draw_image(folder, split, f"p{index:03d}", rng, 0 if index % 7 == 6 else 1 + (index % 3 == 2)))
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    data = {split: f"images/{split}" for split in SPLITS}
    (folder / "data.yaml").write_text(yaml.safe_dump(data | {"names": dict(enumerate(CLASSES))}, sort_keys=False))
    card_for(name, rows).save(folder)
    return folder


def draw_image(folder: Path, split: str, stem: str, rng: random.Random, faces: int) -> dict:
    """Write an image with its label file, and return its manifest row."""
    width, height = SIZE
    image = Image.new("RGB", SIZE, tuple(rng.randrange(90, 180) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    labels, lines = [], []
    for place in range(faces):
        name = CLASSES[rng.randrange(2)]
        side = rng.randrange(24, 44)
        x, y = place * 60 + rng.randrange(0, 60 - side), rng.randrange(0, height - side)
        corners = (x, y, x + side, y + side)
        (draw.ellipse if name == "mask" else draw.rectangle)(corners, fill=COLOURS[name], outline="white")
        labels.append(
            {"name": name, **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, corners), strict=True))}
        )
        centre = ((x + side / 2) / width, (y + side / 2) / height, side / width, side / height)
        lines.append(f"{CLASSES.index(name)} {' '.join(map(repr, centre))}\n")
    image.save(folder / "images" / split / f"{stem}.jpg", quality=95)
    (folder / "labels" / split / f"{stem}.txt").write_text("".join(lines))
    return {"image": f"images/{split}/{stem}.jpg", "split": split, "width": width, "height": height, "labels": labels}


@functools.cache
def trained() -> Path:
    """Return a YOLOv5n checkpoint that has learnt the shapes, more or less; trained once for all tests (10 s)."""
    open_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    root = Path(tempfile.mkdtemp(prefix="fmask-shapes-"))
    folder = draw_ensemble(root, counts=(48, 4, 0))
    settings = {"model": "yolov5n.yaml", "data": str(folder / "data.yaml"), "imgsz": 64, "epochs": 12, "batch": 8}
    fixed = {"nbs": 8, "optimizer": "AdamW", "lr0": 0.003, "warmup_epochs": 1, "augmentations": [], "plots": False}
    quiet = {"device": "cpu", "val": False, "verbose": False, "save_dir": str(root / "run"), "workers": 0}
    DetectionTrainer(overrides=settings | fixed | quiet).train()
    return root / "run" / "weights" / "best.pt"


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
