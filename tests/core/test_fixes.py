"""`fixes.yaml`: pairs of digests that a person ties or parts, read with exact errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemask_train.core.config import FIXES
from facemask_train.core.errors import UsageError
from facemask_train.core.fixes import Fixes, pairs_by_index, read_fixes

A, B, C = "a" * 64, "b" * 64, "a" * 12 + "c" * 52


def write(folder: Path, text: str) -> Path:
    (folder / FIXES).write_text(text)
    return folder


def test_without_a_file_there_are_no_fixes(tmp_path: Path) -> None:
    assert read_fixes(tmp_path) == Fixes()
    assert read_fixes(write(tmp_path, "labels: []\ntie:\n")) == Fixes()


def test_pairs_are_read_in_either_order(tmp_path: Path) -> None:
    found = read_fixes(write(tmp_path, f"tie:\n  - [{B}, {A}]\npart:\n  - [{A}, {C}]\n"))
    assert found == Fixes(tie=((A, B),), part=((A, C),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ties: []", "unknown key 'ties'; known keys: tie, part, labels"),
        ("tie: 3", "tie: expected a list of pairs, found int"),
        (f"tie: [[{A}]]", "tie, line 1: expected two sha256"),
        (f"part: [[{A}, {B}], [{A}, xyz]]", "part, line 2: expected two sha256"),
        (f"tie: [[{A}, 123456789012]]", "in quotation marks"),
        (f"tie: [[{A}, {A}]]", "expected two different images"),
        (f"tie: [[{A}, {B}]]\npart: [[{B}, {A}]]", "found .* under both"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_fixes(write(tmp_path, text))


def test_digests_become_indices_and_absent_images_are_left_out() -> None:
    digests = [B, C, A, A]
    assert pairs_by_index(Path(FIXES), [(A, B), (B[:12], C)], digests) == {(0, 2), (0, 1)}
    assert pairs_by_index(Path(FIXES), [(A, "d" * 64)], digests) == set()
    with pytest.raises(UsageError, match="expected the digits of one image, found 2"):
        pairs_by_index(Path(FIXES), [(A[:12], B)], digests)
