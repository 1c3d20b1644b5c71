"""Small project folders: a user's two sources in two layouts, with one defect of each kind."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from facemask_train.core.types import Annotation, Box
from facemask_train.formats import voc

WIDTH, HEIGHT = 96, 64
SPLIT = {"train": 0.5, "val": 0.25, "test": 0.25}


def image(
    seed: int, kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), **save: object
) -> bytes:
    """Return an encoded image of smooth noise, different for each seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(stream, kind, **save)
    return stream.getvalue()


def write(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_root(root: Path, *, images: int = 8, recipe: dict[str, object] | None = None) -> Path:
    """Write a root with the sources `first` (VOC) and `second` (YOLO, ids reversed) and the recipe `tiny`."""
    for index in range(images):
        labels = [Annotation("mask", Box(10, 10, 40, 40)), Annotation("no_mask", Box(50, 5, 80, 45))]
        stem = f"a{index}"
        write(
            root / "own" / "first",
            {
                f"images/{stem}.png": image(index, "PNG"),
                f"annotations/{stem}.xml": voc.to_xml(f"{stem}.png", labels, width=WIDTH, height=HEIGHT),
            },
        )
        write(
            root / "own" / "second",
            {
                f"pics/b {index}.jpg": image(100 + index),
                f"pics/b {index}.txt": "1 0.5 0.5 0.25 0.25\n0 0.2 0.2 0.2 0.2\n",
            },
        )
    write(root / "own" / "second", {"classes.txt": "bare\nmasked"})
    sources = {
        "first": {
            "path": "own/first",
            "format": "voc",
            "classes": {"mask": "mask", "no_mask": "no_mask", "askew": "worn_incorrectly"},
        },
        "second": {"path": "own/second", "format": "probe", "classes": {"masked": "mask", "bare": "no_mask"}},
    }
    write(root / "configs", {"sources.yaml": yaml.safe_dump({"sources": sources}, sort_keys=False)})
    tiny = {"name": "tiny", "sources": ["first", "second"], "split": SPLIT, **(recipe or {})}
    write(root / "configs" / "ensembles", {"tiny.yaml": yaml.safe_dump(tiny, sort_keys=False)})
    return root
