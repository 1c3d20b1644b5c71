"""Packs the built-in sample as archives in the three published layouts, with the published defects.

There is no list of the faces or the defects besides the archives. Every run gives the same bytes: each image has its
own random generator, and members are sorted, uncompressed and dated 1980.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from facemask_train.core.config import SampleLayout
from facemask_train.core.files import write_bytes
from facemask_train.core.types import Box, Progress, no_progress
from facemask_train.sources.sample.scenes import Face, Scene, draw_scene

if TYPE_CHECKING:
    from facemask_train.sources.sample.pen import ImageArray

VERSION = 1
"""Raised by hand when the drawings change, so that a sample that was fetched before is drawn again."""

COUNTS: dict[SampleLayout, int] = {"voc": 130, "yolo-beside": 140, "darknet": 140}
"""The number of scenes that are drawn for each layout, without copies."""


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    content: bytes


def write_archive(layout: SampleLayout, target: Path, *, progress: Progress = no_progress) -> None:
    """Draw a layout's images and write them, with their labels, as a zip archive at `target`."""
    writers = {"voc": _voc, "yolo-beside": _yolo_beside, "darknet": _darknet}
    write_bytes(target, _packed(writers[layout](progress)))


def _packed(members: Iterator[Member]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(members):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o644 << 16  # as on Unix, on every platform
            archive.writestr(info, content)
    return buffer.getvalue()


# ------------------------------------------------------------------ scenes

WITH_A_MASK_WORN_LOW = {("voc", number) for number in (17, 48, 83, 111)}
CUT = {("voc", 9), ("voc", 36), ("voc", 77), ("darknet", 12), ("darknet", 58), ("darknet", 103)}
"""Scenes whose last face is cut off by the right edge."""
EMPTY = {("darknet", 25), ("darknet", 90)}


def _scene(layout: SampleLayout, number: int) -> Scene:
    key = (layout, number)
    rng = Random(f"fmask {layout} {number}")
    scene = draw_scene(rng, worn_incorrectly=key in WITH_A_MASK_WORN_LOW, people=0 if key in EMPTY else None)
    return _cut(scene) if key in CUT else scene


def _cut(scene: Scene) -> Scene:
    """Crop the right side of a scene, so that the edge cuts off a quarter of the rightmost face.

    The face keeps its full box, which now extends past the edge.
    """
    last = max(face.box for face in scene.faces)
    width = round(last.x_max - last.width / 4)
    return replace(scene, image=scene.image[:, :width])


def _scenes(layout: SampleLayout, progress: Progress) -> Iterator[tuple[int, Scene]]:
    for number in range(COUNTS[layout]):
        progress(f"drawing the sample ({layout})", number, COUNTS[layout])
        yield number, _scene(layout, number)
    progress(f"drawing the sample ({layout})", COUNTS[layout], COUNTS[layout])


def _encoded(pixels: ImageArray, kind: str = "JPEG", *, mode: str = "RGB", **options: object) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    image = image.quantize(128) if mode == "P" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind in ("JPEG", "WEBP") else {}), **options)
    return buffer.getvalue()


# ------------------------------------------------------------------ source 1: Pascal VOC

VOC_NAMES = {"mask": "with_mask", "no_mask": "without_mask", "worn_incorrectly": "mask_weared_incorrect"}
VOC_RGBA = range(3, 130, 9)
VOC_TWINS = (14, 52, 96)
"""Scenes that occur twice, byte for byte, with slightly different boxes."""


def _voc(progress: Progress) -> Iterator[Member]:
    for number, scene in _scenes("voc", progress):
        content = _voc_image(number, scene)
        yield from _voc_pair(number, content, scene)
        if number in VOC_TWINS:
            nudged = tuple(Face(face.kind, _nudged(face.box)) for face in scene.faces)
            yield from _voc_pair(COUNTS["voc"] + VOC_TWINS.index(number), content, replace(scene, faces=nudged))


def _voc_image(number: int, scene: Scene) -> bytes:
    return _encoded(scene.image, "PNG", mode="RGBA" if number in VOC_RGBA else "RGB")


def _nudged(box: Box) -> Box:
    return Box(box.x_min + 1, box.y_min + 1, box.x_max + 1, box.y_max + 2)


def _voc_pair(number: int, content: bytes, scene: Scene) -> Iterator[Member]:
    yield Member(f"images/maksssksksss{number}.png", content)
    yield Member(f"annotations/maksssksksss{number}.xml", _voc_xml(number, scene).encode())


def _voc_xml(number: int, scene: Scene) -> str:
    height, width = scene.image.shape[:2]
    objects = "".join(_voc_object(face, width, height) for face in scene.faces)
    return (
        "<annotation>\n    <folder>images</folder>\n"
        f"    <filename>maksssksksss{number}.png</filename>\n"
        f"    <size>\n        <width>{width}</width>\n        <height>{height}</height>\n"
        "        <depth>3</depth>\n    </size>\n"
        f"    <segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _voc_object(face: Face, width: int, height: int) -> str:
    box = face.box
    # The published origin is 1, so a box that ends at the edge has width + 1.
    corners = {
        "xmin": round(box.x_min) + 1,
        "ymin": round(box.y_min) + 1,
        "xmax": min(round(box.x_max), width) + 1,
        "ymax": min(round(box.y_max), height) + 1,
    }
    return (
        f"    <object>\n        <name>{VOC_NAMES[face.kind]}</name>\n        <pose>Unspecified</pose>\n"
        "        <truncated>0</truncated>\n        <occluded>0</occluded>\n        <difficult>0</difficult>\n"
        "        <bndbox>\n"
        + "".join(f"            <{key}>{value}</{key}>\n" for key, value in corners.items())
        + "        </bndbox>\n    </object>\n"
    )


# ------------------------------------------------------------------ YOLO rows


def _yolo_rows(scene: Scene, names: tuple[str, ...]) -> list[str]:
    height, width = scene.image.shape[:2]
    return [_yolo_row(names.index(face.kind), face.box, width, height) for face in scene.faces]


def _yolo_row(class_id: int, box: Box, width: int, height: int) -> str:
    center_x, center_y = (box.x_min + box.x_max) / 2 / width, (box.y_min + box.y_max) / 2 / height
    return f"{class_id} {center_x:.6f} {center_y:.6f} {box.width / width:.6f} {box.height / height:.6f}"


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


# ------------------------------------------------------------------ source 2: YOLO, labels beside the images

YOLO_NAMES = ("no_mask", "mask")
YOLO_COPIES = (5, 31, 62, 104)
"""Scenes of the first layout that also occur here, byte for byte."""
YOLO_WORDS = ("commuters", "market-day", "ward 3", "queue", "tram_stop", "bus", "school run", "visitors")


def _yolo_beside(progress: Progress) -> Iterator[Member]:
    yield Member("images/classes.txt", "\n".join(YOLO_NAMES).encode())
    listed: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number, scene in _scenes("yolo-beside", progress):
        name, content = _yolo_image(number, scene)
        yield from _yolo_pair(listed, number, name, content, scene)
    for number in YOLO_COPIES:
        scene = _scene("voc", number)
        yield from _yolo_pair(listed, number, f"0_{number:07d}.png", _voc_image(number, scene), scene)
    for part, names in listed.items():
        yield Member(f"{part}.txt", _text(names))


def _yolo_pair(listed: dict[str, list[str]], number: int, name: str, content: bytes, scene: Scene) -> Iterator[Member]:
    part = "test" if number % 8 == 5 else "valid" if number % 9 == 7 else "train"
    path = f"images/{part}/{name}"
    listed[part].append(path)
    yield Member(path, content)
    yield Member(f"{path.rpartition('.')[0]}.txt", _text(_yolo_rows(scene, YOLO_NAMES)))


def _yolo_image(number: int, scene: Scene) -> tuple[str, bytes]:
    """Return an image's name and content, with the defects of the published files."""
    image, stem = scene.image, f"{YOLO_WORDS[number % 8]}-{number:04d}"
    match number:
        case 6 | 40 | 88:
            return f"{stem}.jpg", _encoded(image, "WEBP", method=0)
        case 12 | 71:
            return f"{stem}.png", _encoded(image, "PNG", mode="P")
        case 19 | 53 | 117:
            return f"{stem}.png", _encoded(image, "PNG", mode="RGBA")
        case 26 | 97:
            return f"{stem}.jpg", _turned(image)
        case 33 | 80:
            return f"{stem}.jpg", _encoded(image) + b"\0" * 16 + b"sent from a phone"
        case 47 | 109:
            return (
                f"{'people waiting for the tram, some with a mask and some without, ' * 2}({number})! +1.jpeg",
                _encoded(image),
            )
    return f"{stem}.{'jpeg' if number % 5 == 0 else 'jpg'}", _encoded(image)


def _turned(image: ImageArray) -> bytes:
    """Return a JPEG that is stored rotated, with the EXIF orientation 6, which rotates it back clockwise."""
    import numpy as np
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded(np.ascontiguousarray(np.rot90(image)), exif=exif)


# ------------------------------------------------------------------ source 3: darknet

DARKNET_NAMES = ("mask", "no_mask")
DARKNET_COPIES = (3, 21, 66, 128)
"""Scenes of the second layout that also occur here, byte for byte."""
DARKNET_TRUNCATED, DARKNET_UNLABELED = 44, 71
DARKNET_ROWS = {
    7: "0 0.512000 0.430000 0.210000",
    18: "1 nan 0.300000 0.100000 0.150000",
    29: "7 0.250000 0.310000 0.120000 0.160000",
    37: "0 0.500000 0.500000 0.000000 0.200000",
    49: "1 0.250000 0.310000 0.120000 0.160000 0.97",
    63: "mask 0.250000 0.310000 0.120000 0.160000",
    75: "0 0.400000 inf 0.100000 0.150000",
    86: "-1 0.250000 0.310000 0.120000 0.160000",
    119: "1 0.500000 0.500000 0.100000 0.000000",
}
"""Invalid rows that are added to the labels of these scenes."""
DARKNET_DOUBLED = (55, 99)
DARKNET_STRAYS = {
    "labels.cache": b"a pickle would be run from here",
    "obj_train_data/8.npy": b"an array would replace the image 8.jpg",
    "setup.py": b"raise SystemExit('this file must never be unpacked')\n",
}


def _darknet(progress: Progress) -> Iterator[Member]:
    names = []
    for number, scene in _scenes("darknet", progress):
        content = _encoded(scene.image)
        names.append(f"data/obj_train_data/{number}.jpg")
        yield from _darknet_pair(
            number, content[: len(content) // 2] if number == DARKNET_TRUNCATED else content, scene
        )
    for number, copied in enumerate(DARKNET_COPIES, COUNTS["darknet"]):
        scene = _scene("yolo-beside", copied)
        names.append(f"data/obj_train_data/{number}.jpg")
        yield from _darknet_pair(number, _encoded(scene.image), scene)
    yield Member("obj.names", _text(list(DARKNET_NAMES)))
    yield Member("obj.data", b"classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    yield Member("train.txt", _text(names))
    yield from (Member(name, content) for name, content in DARKNET_STRAYS.items())


def _darknet_pair(number: int, content: bytes, scene: Scene) -> Iterator[Member]:
    yield Member(f"obj_train_data/{number}.jpg", content)
    rows = _yolo_rows(scene, DARKNET_NAMES)
    rows += [DARKNET_ROWS[number]] if number in DARKNET_ROWS else rows[:1] if number in DARKNET_DOUBLED else []
    if number != DARKNET_UNLABELED:
        yield Member(f"obj_train_data/{number}.txt", _text(rows))
