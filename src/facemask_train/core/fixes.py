"""Corrections by hand: `fixes.yaml` beside the recipes. Images are named by the sha256 of their published files.

tie:                       # these share a split: one photograph or one scene
  - [SHA256, SHA256]
part:                      # these have nothing to do with each other, whatever a link says
  - [SHA256, SHA256]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.core.config import FIXES, read_yaml
from facemask_train.core.errors import MissingError, UsageError

DigestPair = tuple[str, str]

_KEYS = ("tie", "part", "labels")
_DIGEST = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Fixes:
    """Corrections by hand.

    Attributes:
        tie: pairs of images that share a split; digests, or their first 12 or more digits.
        part: pairs of images that no link ties.
    """

    tie: tuple[DigestPair, ...] = ()
    part: tuple[DigestPair, ...] = ()


def read_fixes(folder: Path) -> Fixes:
    """Return the corrections in a folder; none if it has no such file.

    Raises:
        UsageError: a key is unknown, a line is not a pair of digests, or a pair is both tied and parted.
    """
    path = folder / FIXES
    try:
        data = read_yaml(path)
    except MissingError:
        return Fixes()
    for key in data:
        if key not in _KEYS:
            raise _refused(path, f"unknown key '{key}'; known keys: {', '.join(_KEYS)}")
    fixes = Fixes(*(tuple(_pairs(path, key, data.get(key) or [])) for key in ("tie", "part")))
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
