"""Small sources with copies: re-encoded, mirrored, with contradicting labels, and with a mask worn incorrectly."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageOps

from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.build import build
from facemask_train.sources.fetch import fetch
from helpers.worlds import SPLIT, image, make_root, write

HOSTILE = "\"><script>alert('x')<b>&amp; 😷"
ALONE = WorkerPool(workers=1)
# The boxes of worlds.make_root's first source, (10, 10, 40, 40) mask and (50, 5, 80, 45) no_mask, as YOLO has them.
SAME = "1 0.260417 0.390625 0.3125 0.46875\n0 0.677083 0.390625 0.3125 0.625\n"
MIRRORED = "1 0.739583 0.390625 0.3125 0.46875\n0 0.322917 0.390625 0.3125 0.625\n"
FLIPPED = "0 0.260417 0.390625 0.3125 0.46875\n1 0.677083 0.390625 0.3125 0.625\n"


def make_twins(root: Path) -> Path:
    """Write the world of `make_root`, with copies of four of its images in the second source, and fetch it.

    a0 re-encoded, a1 mirrored, a2 with its classes flipped, a3 with one mask worn incorrectly; and a hostile name.
    """
    make_root(root)
    first, pics = root / "own/first", root / "own/second/pics"
    askew = first / "annotations/a3.xml"
    write(askew.parent, {askew.name: askew.read_text().replace("<name>mask<", "<name>askew<", 1)})
    for index, (text, mirrored) in enumerate([(SAME, False), (MIRRORED, True), (FLIPPED, False), (SAME, False)]):
        copy = _copy(first / f"images/a{index}.png", mirrored=mirrored)
        write(pics, {f"copy {index}.jpg": copy, f"copy {index}.txt": text})
    write(pics, {f"{HOSTILE}.jpg": image(300), f"{HOSTILE}.txt": "1 0.5 0.5 0.25 0.25\n"})
    fetch(root, ["first", "second"])
    return root


def _copy(path: Path, *, mirrored: bool) -> bytes:
    stream = io.BytesIO()
    with Image.open(path) as image:
        (ImageOps.mirror(image) if mirrored else image).save(stream, "JPEG", quality=40 if mirrored else 92)
    return stream.getvalue()


def build_as(root: Path, name: str, **recipe: Any) -> Path:
    """Build a recipe of the two sources; return the ensemble's folder."""
    settings = {"name": name, "sources": ["first", "second"], "split": SPLIT, **recipe}
    write(root / "configs/ensembles", {f"{name}.yaml": yaml.safe_dump(settings, sort_keys=False)})
    return build(root, name, pool=ALONE).path


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def rewrite(folder: Path, rows: list[dict[str, Any]], name: str = "manifest") -> None:
    """Put other rows in a table of an ensemble."""
    path = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)


def with_copies(folder: Path) -> None:
    """Give each training image of an ensemble a copy `faces`, as an augmented build would have it."""
    rows = table(folder, "manifest")
    made = [
        {**row, "copy": "faces", "edits": ["0 beard done", "1 - too-small"], "output_sha256": "0" * 64}
        for row in rows
        if row["split"] == "train"
    ]
    rewrite(folder, rows + made)
    (folder / "transforms").mkdir()
    Image.new("RGB", (1600, 400), "#446688").save(folder / "transforms/faces.jpg")
