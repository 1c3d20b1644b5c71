"""The tables of an ensemble: what stands in `manifest`, `groups` and `problems.parquet`, and in `data.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from facemask_train.core.files import digest_file, inside
from facemask_train.core.types import CLASSES, SPLITS, Annotation
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.grouping.label_agreement import Copy
from facemask_train.dataset.loading.validate import Problem
from facemask_train.dataset.plan import Output, Planned


class Written(NamedTuple):
    """What became of one output: the sha256 of its image, and what was done to its faces."""

    sha256: str
    edits: tuple[str, ...]
    taken_over: bool = False


class Earlier(NamedTuple):
    """An image of an earlier build that would come out the same."""

    image: Path
    written: Written


def manifest_schema() -> Any:
    import pyarrow as pa

    texts = (
        "image",
        "split",
        "source",
        "source_image",
        "sha256",
        "family",
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


def manifest_row(planned: Planned, output: Output) -> dict[str, Any]:
    """Return an output's manifest row as far as it is decided before anything is made."""
    record = planned.kept.record
    return {
        "image": output.image,
        "split": planned.kept.split,
        "source": record.source,
        "source_image": record.path,
        "sha256": record.sha256,
        "family": planned.kept.family[:16],
        "copy": output.copy,
        "operation": output.operation,
        "key": output.key,
        "width": output.width,
        "height": output.height,
        "labels": [label_row(label) for label in output.labels],
    }


def label_row(label: Annotation) -> dict[str, Any]:
    """Return a label as the tables have it, in pixels."""
    x_min, y_min, x_max, y_max = (round(corner, 4) for corner in label.box.corners)
    return {"name": label.name, "x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}


def made_with() -> dict[str, str]:
    """Return the versions of the packages that the images' bytes depend on."""
    import importlib.metadata

    import cv2
    import numpy as np
    import PIL

    return {
        "albumentations": importlib.metadata.version("albumentations"),  # to import it takes 2 seconds
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }


def earlier_images(folder: Path, card: EnsembleCard | None) -> dict[str, Earlier]:
    """Return the images of the ensemble in a folder by their key.

    Args:
        card: what that ensemble says of itself. Its images count where the manifest is the one that it was finished
            with, and the packages that made them are those of today.
    """
    import pyarrow.parquet as pq

    manifest = folder / "manifest.parquet"
    if card is None or card.made_with != made_with() or not manifest.is_file():
        return {}
    if card.manifest_digest != digest_file(manifest):
        return {}
    rows = pq.read_table(manifest, columns=["key", "image", "output_sha256", "edits"]).to_pylist()
    return {
        row["key"]: Earlier(
            inside(folder, row["image"], str(manifest)), Written(row["output_sha256"], tuple(row["edits"]))
        )
        for row in rows
    }


def write_groups(path: Path, copies: Sequence[Copy], images: Mapping[tuple[str, str], str]) -> None:
    """Write `groups.parquet`: a row for each image that has a copy, its labels laid over the first that is kept.

    `image` is the image in the ensemble: a kept one's own, and the first kept one's for those that are not.

    Args:
        images: by source and path, the kept images in the ensemble.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = [images.get((copy.member.source, copy.member.path), "") for copy in copies]
    first: dict[int, str] = {}
    for copy, image in zip(copies, own, strict=True):
        if image:
            first.setdefault(copy.group, image)
    texts = ("source", "source_image", "sha256", "role", "cause", "image")
    numbers = (("orientation", pa.int64()), ("likeness", pa.float64()), ("labels", pa.list_(_label_type())))
    matches = (("matched", pa.list_(pa.int64())), ("iou", pa.list_(pa.float64())))
    schema = pa.schema([("group", pa.int64()), *((key, pa.string()) for key in texts), *numbers, *matches])
    rows = [_group_row(copy, image or first.get(copy.group, "")) for copy, image in zip(copies, own, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _group_row(copy: Copy, image: str) -> dict[str, Any]:
    return {
        "group": copy.group,
        "source": copy.member.source,
        "source_image": copy.member.path,
        "sha256": copy.member.sha256,
        "role": copy.role,
        "cause": copy.cause,
        "image": image,
        "orientation": copy.orientation,
        "likeness": round(copy.likeness, 4),
        "labels": [label_row(label) for label in copy.labels],
        "matched": list(copy.matched),
        "iou": [round(overlap, 4) for overlap in copy.overlaps],
    }


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write `problems.parquet`: a row for everything that was repaired, merged or refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [(name, pa.int64() if name == "number" else pa.string()) for name in Problem.__dataclass_fields__]
    rows = [asdict(problem) for problem in problems]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)


def write_data_yaml(path: Path, splits: Mapping[str, int]) -> None:
    """Write what a YOLO tool is pointed at; without `path`, since the loader takes the yaml's own folder."""
    import yaml

    data = {split: f"images/{split}" for split in SPLITS if splits[split]}
    text = yaml.safe_dump(data | {"names": dict(enumerate(CLASSES))}, sort_keys=False)
    path.write_text(text, encoding="utf-8", newline="\n")
