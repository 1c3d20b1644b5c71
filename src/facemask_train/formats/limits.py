"""Refuses annotation files that are larger than any real one, before they are read.

The limits are those of `core.config.Limits`, or what `limits:` of the source says; `using` sets them for a reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Literal

from facemask_train.core.config import Limits
from facemask_train.core.errors import DataError
from facemask_train.formats.pairing import ImageAnnotation

_limits: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - it is frozen


@contextmanager
def using(limits: Limits) -> Iterator[None]:
    """Read with these limits inside a `with` block."""
    token = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(token)


def is_small(path: Path) -> bool:
    """Return whether a label file is within the limit of its bytes."""
    return path.stat().st_size <= _limits.get().label_bytes


def is_small_list(path: Path) -> bool:
    """Return whether a list of images is within the limit of a JSON file, which may list as many."""
    return path.stat().st_size <= _limits.get().json_bytes


def refused_label_file(
    folder: Path, file: str, key: Literal["label_bytes", "labelme_bytes"] = "label_bytes"
) -> ImageAnnotation | None:
    """Return the refusal of the image of a label file that is too large to be read, or None.

    Args:
        key: the limit of its bytes. Only a file of rows (`label_bytes`) has a limit of lines too.
    """
    size, limits = (folder / file).stat().st_size, _limits.get()
    most: int = getattr(limits, key)
    if size > most:
        found = f"expected at most {most:,} bytes, found {size:,}"
        return ImageAnnotation(file, cause="too-large", detail=f"{file}: {found}; {_raise(key)}")
    if key != "label_bytes" or size <= limits.rows:  # it cannot hold more lines than bytes, so it is not read twice
        return None
    with (folder / file).open("rb") as stream:
        content = stream.read(limits.label_bytes)
    return _too_many(file, max(content.count(b"\n"), content.count(b"\r")), "lines")


def within_rows(annotation: ImageAnnotation) -> ImageAnnotation:
    """Return an annotation, or the refusal of its image if it has too many rows."""
    refusal = _too_many(annotation.file, len(annotation.rows), "boxes")
    return annotation if refusal is None else replace(refusal, named=annotation.named)


def _too_many(file: str, count: int, what: str) -> ImageAnnotation | None:
    limit = _limits.get().rows
    if count <= limit:
        return None
    detail = f"{file}: expected at most {limit:,} {what}, found {count:,}; {_raise('rows')}"
    return ImageAnnotation(file, cause="too-many-rows", detail=detail)


def read_names_file(path: Path) -> bytes:
    """Return the content of a file of class names.

    Raises:
        DataError: it is larger than the limit.
    """
    _check_size(path, _limits.get().names_bytes, "names_bytes")
    return path.read_bytes()


def read_json_file(path: Path) -> bytes:
    """Return the content of a COCO or CVAT file.

    Raises:
        DataError: it is larger than the limit.
    """
    _check_size(path, _limits.get().json_bytes, "json_bytes")
    return path.read_bytes()


def check_names_count(path: Path, count: int) -> None:
    """Check the number of class names in a file.

    Raises:
        DataError: it is larger than the limit.
    """
    if count > (limit := _limits.get().names):
        raise DataError(f"{path}: expected at most {limit:,} class names, found {count:,}", next_step=_raise("names"))


def _check_size(path: Path, limit: int, key: str) -> None:
    if (size := path.stat().st_size) > limit:
        raise DataError(f"{path}: expected at most {limit:,} bytes, found {size:,}", next_step=_raise(key))


def _raise(key: str) -> str:
    return f"if the file is sound, raise `limits: {{{key}: ...}}` of this source in configs/sources.yaml"
