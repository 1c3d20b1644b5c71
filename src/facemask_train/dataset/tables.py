"""The tables of an ensemble (`manifest`, `groups` and `issues.parquet`), and its `data.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from facemask_train.core.files import digest_file, inside
from facemask_train.core.types import CLASSES, SPLITS, Annotation
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.grouping.label_agreement import Duplicate, SourceImage
from facemask_train.dataset.linking.links import Link
from facemask_train.dataset.loading.validate import Issue
from facemask_train.dataset.plan import Output, PlannedImage


class WrittenImage(NamedTuple):
    """A written image: the sha256 of its file, its face-aware edits, and whether an earlier build's file was reused."""

    sha256: str
    edits: tuple[str, ...]
    reused: bool = False


class ReusableImage(NamedTuple):
    """An image of an earlier build with the same key: writing it again would give the same bytes."""

    image: Path
    written: WrittenImage


def manifest_schema() -> Any:
    import pyarrow as pa

    texts = (
        "image",
        "split",
        "source",
        "source_image",
        "sha256",
        "split_group",
        "copy",
        "operation",
        "key",
        "output_sha256",
    )
    return pa.schema(
        [(key, pa.string()) for key in texts]
        + [("width", pa.int64()), ("height", pa.int64()), ("labels", pa.list_(_label_type()))]
        + [("edits", pa.list_(pa.string()))]
    )


def _label_type() -> Any:
    import pyarrow as pa

    return pa.struct([("name", pa.string()), *((key, pa.float64()) for key in ("x_min", "y_min", "x_max", "y_max"))])


def manifest_row(planned: PlannedImage, output: Output) -> dict[str, object]:
    """Return the manifest row of an output as far as it is known before the image is written."""
    record = planned.kept.record
    return {
        "image": output.image,
        "split": planned.kept.split,
        "source": record.source,
        "source_image": record.path,
        "sha256": record.sha256,
        "split_group": planned.kept.split_group[:16],
        "copy": output.copy,
        "operation": output.operation,
        "key": output.key,
        "width": output.width,
        "height": output.height,
        "labels": [label_row(label) for label in output.labels],
    }


def label_row(label: Annotation) -> dict[str, object]:
    """Return a label as a row of the tables, in pixels."""
    x_min, y_min, x_max, y_max = (round(corner, 4) for corner in label.box.corners)
    return {"name": label.name, "x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that the bytes of the images depend on."""
    import importlib.metadata

    import cv2
    import numpy as np
    import PIL

    return {
        "albumentations": importlib.metadata.version("albumentations"),  # importing it takes 2 seconds
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }


def reusable_images(folder: Path, card: EnsembleCard | None) -> dict[str, ReusableImage]:
    """Return the images of an earlier build by their key.

    There are none unless the manifest is the one that the card describes, and the versions of the packages are equal.
    """
    import pyarrow.parquet as pq

    manifest = folder / "manifest.parquet"
    if card is None or card.packages != package_versions() or not manifest.is_file():
        return {}
    if card.manifest_digest != digest_file(manifest):
        return {}
    rows = pq.read_table(manifest, columns=["key", "image", "output_sha256", "edits"]).to_pylist()
    return {
        row["key"]: ReusableImage(
            inside(folder, row["image"], str(manifest)), WrittenImage(row["output_sha256"], tuple(row["edits"]))
        )
        for row in rows
    }


def write_groups(path: Path, duplicates: Sequence[Duplicate], images: Mapping[tuple[str, str], str]) -> None:
    """Write `groups.parquet`: a row for each image with a duplicate, its labels in the pixels of the kept image.

    The column `image` is the path in the ensemble: of the image itself if it is kept, else of its group's kept image.

    Args:
        images: the paths in the ensemble of the kept images, by source and path.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = [images.get((one.image.source, one.image.path), "") for one in duplicates]
    first: dict[int, str] = {}
    for one, image in zip(duplicates, own, strict=True):
        if image:
            first.setdefault(one.group, image)
    texts = ("source", "source_image", "sha256", "role", "cause", "image")
    numbers = (("orientation", pa.int64()), ("similarity", pa.float64()), ("labels", pa.list_(_label_type())))
    matches = (("matched", pa.list_(pa.int64())), ("iou", pa.list_(pa.float64())))
    schema = pa.schema([("group", pa.int64()), *((key, pa.string()) for key in texts), *numbers, *matches])
    rows = [_group_row(one, image or first.get(one.group, "")) for one, image in zip(duplicates, own, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _group_row(one: Duplicate, image: str) -> dict[str, object]:
    return {
        "group": one.group,
        "source": one.image.source,
        "source_image": one.image.path,
        "sha256": one.image.sha256,
        "role": one.role,
        "cause": one.cause,
        "image": image,
        "orientation": one.orientation,
        "similarity": round(one.similarity, 4),
        "labels": [label_row(label) for label in one.labels],
        "matched": list(one.matched),
        "iou": [round(overlap, 4) for overlap in one.overlaps],
    }


def write_links(path: Path, images: Sequence[SourceImage], links: Sequence[Link]) -> None:
    """Write `links.parquet`: a row for each link that local features found, with both images.

    Args:
        images: those that the links refer to by index.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_link_row(images[one.first], images[one.second], one) for one in links]
    texts = [f"{key}{side}" for side in ("", "_2") for key in ("source", "source_image", "sha256")]
    numbers = [("points", pa.int64()), ("agreeing", pa.float64()), ("ties", pa.bool_())]
    fields = [*((key, pa.string()) for key in (*texts, "verdict")), *numbers, ("transform", pa.list_(pa.float64()))]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)


def _link_row(one: SourceImage, other: SourceImage, link: Link) -> dict[str, object]:
    return {
        "source": one.source,
        "source_image": one.path,
        "sha256": one.sha256,
        "source_2": other.source,
        "source_image_2": other.path,
        "sha256_2": other.sha256,
        "verdict": link.verdict,
        "points": link.points,
        "agreeing": link.agreeing,
        "ties": link.ties,
        "transform": [round(number, 5) for number in link.transform],
    }


def write_issues(path: Path, issues: Sequence[Issue]) -> None:
    """Write `issues.parquet`: a row for each image and box that was repaired, merged or refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [(name, pa.int64() if name == "number" else pa.string()) for name in Issue.__dataclass_fields__]
    rows = [asdict(issue) for issue in issues]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)


def write_data_yaml(path: Path, splits: Mapping[str, int]) -> None:
    """Write `data.yaml` for YOLO tools; without `path`, so that loaders use the folder of the file."""
    import yaml

    data = {split: f"images/{split}" for split in SPLITS if splits[split]}
    text = yaml.safe_dump(data | {"names": dict(enumerate(CLASSES))}, sort_keys=False)
    path.write_text(text, encoding="utf-8", newline="\n")
