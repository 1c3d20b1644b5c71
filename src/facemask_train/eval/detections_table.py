"""The tables of an evaluation, for later stages and other tools: each image with its labels, and every detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from facemask_train.core.files import digest_data
from facemask_train.core.types import Annotation, Detection, ImageResult
from facemask_train.dataset.contents import labels_from_rows
from facemask_train.eval.measures.slices import ImageTraits

DETECTIONS, IMAGES = "detections.parquet", "images.parquet"
_CORNERS = ("x_min", "y_min", "x_max", "y_max")


def write_detections(path: Path, results: Sequence[ImageResult]) -> None:
    """Write every detection above the lowest confidence, in pixels of the image as displayed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(result.image, one) for result in results for one in result.detections]
    columns = {
        "image": pa.array([image for image, _ in rows], pa.string()),
        "name": pa.array([one.name for _, one in rows], pa.string()),
        "confidence": pa.array([one.confidence for _, one in rows], pa.float32()),
    }
    for axis, key in enumerate(_CORNERS):
        columns[key] = pa.array([one.corners[axis] for _, one in rows], pa.float32())
    pq.write_table(pa.table(columns), path)


def write_images(
    path: Path,
    images: Sequence[ImageResult],
    traits: Mapping[str, ImageTraits],
    digests: Mapping[str, str],
    groups: Mapping[str, str] | None = None,
) -> None:
    """Write the size, content digest, traits and labels of each image, and its scene group: itself if not given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = pa.struct([("name", pa.string()), *((key, pa.float64()) for key in _CORNERS)])
    texts, numbers = ("image", "sha256", "group", "source"), ("brightness", "sharpness")
    fields = [*((key, pa.string()) for key in texts), ("width", pa.int64()), ("height", pa.int64())]
    schema = pa.schema([*fields, *((key, pa.float64()) for key in numbers), ("labels", pa.list_(label))])
    rows = [
        {
            "image": one.image, "sha256": digests[one.image],
            "group": (groups or {}).get(one.image, one.image), "width": one.width, "height": one.height,
            "source": traits[one.image].source, "brightness": traits[one.image].brightness,
            "sharpness": traits[one.image].sharpness, "labels": [_label_row(label) for label in one.labels],
        }
        for one in images
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _label_row(label: Annotation) -> dict[str, str | float]:
    return {"name": label.name, **dict(zip(_CORNERS, label.box.corners, strict=True))}


def read_images(folder: Path) -> list[ImageResult]:
    """Return the images of an evaluation with their labels and detections, sorted by image."""
    import pyarrow.parquet as pq

    detections: dict[str, list[Detection]] = {}
    for row in pq.read_table(folder / DETECTIONS).to_pylist():
        box = tuple(row[key] for key in _CORNERS)
        detections.setdefault(row["image"], []).append(Detection(row["name"], row["confidence"], box))
    return [
        ImageResult(
            row["image"],
            row["width"],
            row["height"],
            labels_from_rows(row["labels"]),
            tuple(detections.get(row["image"], ())),
        )
        for row in pq.read_table(folder / IMAGES).to_pylist()
    ]


def images_digest(images: Sequence[ImageResult], digests: Mapping[str, str]) -> str:
    """Return a digest of the contents and labels of the images, independent of their names."""
    rows = [
        [digests[one.image], sorted([label.name, *(round(x, 2) for x in label.box.corners)] for label in one.labels)]
        for one in images
    ]
    return digest_data(sorted(rows))


def read_groups(folder: Path) -> dict[str, str]:
    """Return the scene group of each image of an evaluation."""
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / IMAGES, columns=["image", "group"]).to_pylist()
    return {row["image"]: row["group"] for row in rows}


def read_digests(folder: Path) -> dict[str, str]:
    """Return the content digest of each image of an evaluation."""
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / IMAGES, columns=["image", "sha256"]).to_pylist()
    return {row["image"]: row["sha256"] for row in rows}
