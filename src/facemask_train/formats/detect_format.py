"""Finds out which layout a source's folder has, by looking at its files alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from facemask_train.core.errors import DataError
from facemask_train.formats import coco, voc, yolo
from facemask_train.formats.pairing import list_files, suffix

EVIDENCE = {"voc": voc.evidence, "yolo": yolo.evidence, "coco": coco.evidence}
_LOOKED_FOR = "an .xml with <annotation> (voc), a .txt of label rows (yolo), a .json with images and annotations (coco)"


def probe(folder: Path) -> str:
    """Return the one layout that a folder shows evidence of.

    Raises:
        DataError: it shows none, or several.
    """
    files = list_files(folder)
    found = {layout: file for layout, look in EVIDENCE.items() if (file := look(folder, files))}
    if len(found) == 1:
        return next(iter(found))
    if found:
        seen = ", ".join(f"{layout} ({file})" for layout, file in found.items())
        problem = f"expected one layout, found {seen}"
    else:
        problem = f"expected {_LOOKED_FOR}, found {_kinds(files)}"
    raise DataError(
        f"{folder}: {problem}",
        next_step=f"set `format:` of this source in configs/sources.yaml to one of: {', '.join(EVIDENCE)}",
    )


def _kinds(files: list[str]) -> str:
    counts = Counter(suffix(file) or "no extension" for file in files)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "no files"
