"""A tiny ensemble of colored squares, in the layout of `build-dataset`, for the known detector."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from PIL import Image, ImageDraw

from facemask_train.core.types import CLASSES, SPLITS, Corners
from facemask_train.dataset import tables
from helpers.cards import card_for
from helpers.known_detector import color

SIZE = (120, 90)
GREEN = (40, 200, 40)


@dataclass(frozen=True)
class Face:
    """A labeled face, and how it is drawn: with this share of `mask` in its color, or in green, which nobody finds.

    `loose`: the label lies a quarter of the face's width further right than the face, so the two overlap by 0.6.
    """

    name: str
    mask: float | None
    light: float = 0.2
    place: Literal["inside", "corner"] = "inside"
    loose: bool = False

    @property
    def found(self) -> str | None:
        """The class of the most confident answer on the face."""
        return None if self.mask is None else "mask" if self.mask > 0.5 else "no_mask"


FACES = (
    Face("mask", 1.0, 0.40),
    Face("no_mask", 0.0, 0.24),
    Face("mask", 1.0, 0.10, place="corner"),
    Face("no_mask", 0.53, 0.20),  # nearly a tie: `mask` is a little more confident than `no_mask`
    Face("mask", 0.54, 0.36),  # nearly a tie, and right
    Face("no_mask", None),  # missed
    Face("no_mask", 0.0, 0.22, loose=True),
    Face("mask", 0.0, 0.12),  # the wrong class
    Face("no_mask", 0.0, 0.34, place="corner"),
)
"""The faces of each split in turn, and from the beginning again after the last."""

FALSE_BOXES = (Face("mask", 0.7, 0.00), Face("mask", 1.0, 0.22))
"""What is drawn without a label in every sixth image, from the second on: found with low and high confidence."""


def draw_ensemble(root: Path, *, name: str = "v5", counts: tuple[int, int, int] = (16, 4, 8), seed: int = 0) -> Path:
    """Write an ensemble of rectangles on gray; every third image has two labeled faces, every seventh has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root / "data" / "ensembles" / name
    rng = random.Random(seed)
    rows = []
    for split, count in zip(SPLITS, counts, strict=True):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        for index, faces in enumerate(faces_of_images(count)):
            unlabeled = [FALSE_BOXES[index // 6 % 2]] if index % 6 == 1 else []
            rows.append(draw_image(folder, split, f"p{index:03d}", rng, faces, unlabeled))
    pq.write_table(pa.Table.from_pylist(rows, schema=tables.manifest_schema()), folder / "manifest.parquet")
    tables.write_groups(folder / "groups.parquet", (), {})
    data = {split: f"images/{split}" for split in SPLITS}
    (folder / "data.yaml").write_text(yaml.safe_dump(data | {"names": dict(enumerate(CLASSES))}, sort_keys=False))
    card_for(name, rows).save(folder)
    return folder


def faces_of_images(count: int) -> list[list[Face]]:
    """Return the labeled faces of each image of a split."""
    shown: list[list[Face]] = []
    for index in range(count):
        many = 0 if index % 7 == 6 else 1 + (index % 3 == 2)
        before = sum(map(len, shown))
        shown.append([FACES[(before + number) % len(FACES)] for number in range(many)])
    return shown


def draw_image(
    folder: Path, split: str, stem: str, rng: random.Random, faces: list[Face], unlabeled: list[Face]
) -> dict:
    """Write an image with its label file, and return its manifest row."""
    width, height = SIZE
    image = Image.new("RGB", SIZE, (rng.randrange(90, 180),) * 3)
    draw = ImageDraw.Draw(image)
    labels, lines = [], []
    for number, face in enumerate([*faces, *unlabeled]):
        x, y, side = place(face, number, rng)
        fill = GREEN if face.mask is None else color(face.mask, face.light)
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=fill)
        if number >= len(faces):
            continue
        x += side // 4 * face.loose
        corners: Corners = (x, y, x + side, y + side)
        labels.append(
            {"name": face.name, **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, corners), strict=True))}
        )
        center = ((x + side / 2) / width, (y + side / 2) / height, side / width, side / height)
        lines.append(f"{CLASSES.index(face.name)} {' '.join(map(repr, center))}\n")
    image.save(folder / "images" / split / f"{stem}.jpg", quality=100, subsampling=0)
    (folder / "labels" / split / f"{stem}.txt").write_text("".join(lines))
    own = {"image": f"images/{split}/{stem}.jpg", "split": split, "width": width, "height": height, "labels": labels}
    return dict.fromkeys(tables.manifest_schema().names, "") | {"edits": []} | own


def place(face: Face, number: int, rng: random.Random) -> tuple[int, int, int]:
    """Return a face's left and upper edge and its side: the first of an image lies upper left, the second lower right.

    So two faces share no row and no column, in which the known detector would take them for one.
    """
    assert number < 2, "there is room for two"
    side = rng.randrange(24, 37)
    x, y = rng.randrange(2, 59 - side), rng.randrange(2, 44 - side)
    if face.place == "corner":
        x = y = 0
    return (x, y, side) if number == 0 else (SIZE[0] - x - side, SIZE[1] - y - side, side)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
