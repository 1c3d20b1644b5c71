"""Corrections by hand: `fixes.yaml` beside the recipes. Images are named by the sha256 of their published files.

    tie:                       # these share a split: one photograph or one scene
      - [SHA256, SHA256]
    part:                      # these have nothing to do with each other, whatever a link says
      - [SHA256, SHA256]
    labels:                    # answers about single boxes; `fmask evaluate --suspects` adds them
      - {image: SHA256, action: class, box: [10, 10, 40, 40], name: no_mask}
      - {image: SHA256, action: remove, box: [50, 5, 80, 45], name: mask}
      - {image: SHA256, action: add, box: [60, 60, 80, 80], name: mask}
      - {image: SHA256, action: move, box: [10, 10, 40, 40], name: mask, to: [12, 10, 44, 42]}
      - {image: SHA256, action: keep, box: [10, 10, 40, 40], name: mask}

Boxes are corners in pixels of the image as displayed: x_min, y_min, x_max, y_max. `keep` changes nothing: a person
found the label right, or no face where a model detects one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from facemask_train.core.config import FIXES, read_yaml
from facemask_train.core.errors import MissingError, UsageError
from facemask_train.core.files import canonical, digest_data, write_bytes
from facemask_train.core.types import CLASSES, Box, Corners

DigestPair = tuple[str, str]
LabelAction = Literal["class", "remove", "add", "move", "keep"]

_KEYS = ("tie", "part", "labels")
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_WHOLE_DIGEST = re.compile(r"[0-9a-f]{64}")
_LABEL_KEYS = ("image", "action", "box", "name", "to")
_HEADER = "# Corrections by hand; comments are lost when fmask adds an answer. See docs/reference/files.md\n"


@dataclass(frozen=True, slots=True)
class LabelFix:
    """What a person answered about one box.

    Attributes:
        image: sha256 of the published image file.
        box: the label that the answer is about, or the new box of `add`; corners in pixels of the displayed image.
        name: the right class; for `remove`, the class of the label.
        to: where `move` puts the box.
    """

    image: str
    action: LabelAction
    box: Corners
    name: str
    to: Corners | None = None

    @property
    def changes(self) -> bool:
        """Whether the answer changes a label."""
        return self.action != "keep"


@dataclass(frozen=True, slots=True)
class Fixes:
    """Corrections by hand.

    Attributes:
        tie: pairs of images that share a split; digests, or their first 12 or more digits.
        part: pairs of images that no link ties.
        labels: answers about single boxes, at most one about each box of an image.
    """

    tie: tuple[DigestPair, ...] = ()
    part: tuple[DigestPair, ...] = ()
    labels: tuple[LabelFix, ...] = ()

    def with_label(self, fix: LabelFix) -> Fixes:
        """Return the fixes with one more answer; it replaces an earlier one about the same box."""
        return replace(self, labels=(*self.without_label(fix.image, fix.box).labels, fix))

    def without_label(self, image: str, box: Corners) -> Fixes:
        """Return the fixes without the answer about one box."""
        return replace(self, labels=tuple(one for one in self.labels if (one.image, one.box) != (image, box)))

    def digest(self) -> str:
        """Return a digest of all that changes an ensemble, in any order; empty if nothing does."""
        rows = sorted(canonical(_row(one)) for one in self.labels if one.changes)
        return digest_data([sorted(self.tie), sorted(self.part), rows]) if self.tie or self.part or rows else ""


def read_fixes(folder: Path) -> Fixes:
    """Return the corrections in a folder; none if it has no such file.

    Raises:
        UsageError: a key is unknown, a line is not a pair of digests or an answer, a pair is both tied and parted, or
            two answers are about one box.
    """
    path = folder / FIXES
    try:
        data = read_yaml(path)
    except MissingError:
        return Fixes()
    for key in data:
        if key not in _KEYS:
            raise _refused(path, f"unknown key '{key}'; known keys: {', '.join(_KEYS)}")
    tie, part = (tuple(_pairs(path, key, data.get(key) or [])) for key in ("tie", "part"))
    fixes = Fixes(tie, part, _labels(path, data.get("labels") or []))
    both = sorted(set(fixes.tie) & set(fixes.part))
    if both:
        raise _refused(path, f"expected a pair under tie or under part, found {list(both[0])} under both")
    return fixes


def _pairs(path: Path, key: str, lines: Any) -> Iterable[DigestPair]:
    if not isinstance(lines, list):
        raise _refused(path, f"{key}: expected a list of pairs, found {type(lines).__name__}")
    for number, line in enumerate(lines, 1):
        pair = line if isinstance(line, list) else []
        if len(pair) != 2 or not all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in pair):
            raise _refused(
                path,
                f"{key}, line {number}: expected two sha256 in hex (or their first 12 or more digits, in quotation"
                f" marks if they are all decimal), found {str(line)[:80]!r}",
            )
        one, other = sorted(pair)
        if one == other:
            raise _refused(path, f"{key}, line {number}: expected two different images, found {one!r} twice")
        yield one, other


def write_fixes(folder: Path, fixes: Fixes) -> None:
    """Write `fixes.yaml` atomically, the file that `read_fixes` reads."""
    import yaml

    data: dict[str, Any] = {key: [list(pair) for pair in getattr(fixes, key)] for key in ("tie", "part")}
    data["labels"] = [_row(one) for one in fixes.labels]
    text = yaml.safe_dump({key: rows for key, rows in data.items() if rows}, sort_keys=False, default_flow_style=None)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / FIXES, (_HEADER + text).encode())


def _row(fix: LabelFix) -> dict[str, Any]:
    row = {"image": fix.image, "action": fix.action, "box": list(fix.box), "name": fix.name}
    return row | ({"to": list(fix.to)} if fix.to is not None else {})


def _labels(path: Path, rows: Any) -> tuple[LabelFix, ...]:
    if not isinstance(rows, list):
        raise _refused(path, f"labels: expected a list of answers, found {type(rows).__name__}")
    found: dict[tuple[str, Corners], LabelFix] = {}
    for number, row in enumerate(rows, 1):
        try:
            fix = label_fix(row)
        except ValueError as error:
            raise _refused(path, f"labels, line {number}: {error}") from error
        if (fix.image, fix.box) in found:
            raise _refused(path, f"labels, line {number}: expected one answer about each box, found a second one")
        found[fix.image, fix.box] = fix
    return tuple(found.values())


def label_fix(row: object) -> LabelFix:
    """Return the answer in a mapping from yaml or JSON.

    Raises:
        ValueError: a key is unknown or missing, or a value is invalid.
    """
    if not isinstance(row, dict) or not {"image", "action", "box", "name"} <= set(row) <= set(_LABEL_KEYS):
        raise ValueError(f"expected the keys image, action, box, name (and to for move), found {str(row)[:80]!r}")
    image, action, name = row["image"], row["action"], row["name"]
    if not isinstance(image, str) or not _WHOLE_DIGEST.fullmatch(image):
        raise ValueError(f"image: expected a sha256 in hex, 64 digits, found {str(image)[:80]!r}")
    if action not in get_args(LabelAction):
        raise ValueError(f"action: expected one of {', '.join(get_args(LabelAction))}, found {str(action)[:80]!r}")
    if name not in CLASSES:
        raise ValueError(f"name: expected one of {', '.join(CLASSES)}, found {str(name)[:80]!r}")
    if ("to" in row) != (action == "move"):
        raise ValueError("to: expected with action move, and only there")
    return LabelFix(image, action, _box(row["box"]), name, _box(row["to"]) if "to" in row else None)


def _box(value: object) -> Corners:
    numbers = value if isinstance(value, list) and len(value) == 4 else []
    if not numbers or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        raise ValueError(f"expected a box of four numbers, found {str(value)[:80]!r}")
    return rounded(cast("Corners", tuple(map(float, Box(*numbers).corners))))


def rounded(corners: Corners) -> Corners:
    """Return corners in hundredths of a pixel, as the file has them."""
    x_min, y_min, x_max, y_max = (round(one, 2) for one in corners)
    return x_min, y_min, x_max, y_max


def _refused(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: {what}", next_step="fix the file")


def pairs_by_index(path: Path, pairs: Iterable[DigestPair], digests: Iterable[str]) -> set[tuple[int, int]]:
    """Return pairs of digests as pairs of indices, the lower first; those of which an image is missing are left out.

    Args:
        path: the file, to name in messages.
        digests: the sha256 of each image.

    Raises:
        UsageError: the first digits of a digest are those of several images.
    """
    contents: dict[str, int] = {}
    for index, digest in enumerate(digests):
        contents.setdefault(digest, index)
    found = set()
    for pair in pairs:
        first, second = (_index(path, one, contents) for one in pair)
        if first is not None and second is not None and first != second:
            found.add((min(first, second), max(first, second)))
    return found


def _index(path: Path, digest: str, contents: dict[str, int]) -> int | None:
    """Return the first image with a content, or None if there is none."""
    if digest in contents:
        return contents[digest]
    found = [index for content, index in contents.items() if content.startswith(digest)]
    if len(found) > 1:
        raise _refused(path, f"expected the digits of one image, found {len(found)} that begin with {digest!r}")
    return found[0] if found else None
