"""The file of corrections by hand: what it holds, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemask_train.core.config import FIXES
from facemask_train.core.errors import UsageError
from facemask_train.core.fixes import Fixes, LabelFix, pairs_by_index, read_fixes, write_fixes

ONE, TWO = "1" * 64, "a" * 64  # one is all decimal: yaml must not read it as a number
BOX = (10.0, 10.5, 40.0, 40.25)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    labels = (
        LabelFix(ONE, "class", BOX, "no_mask"),
        LabelFix(TWO, "remove", BOX, "mask"),
        LabelFix(TWO, "add", (1, 2, 3, 4), "mask"),
        LabelFix(TWO, "move", (5, 5, 9, 9), "mask", to=(6, 6, 10, 10)),
        LabelFix(TWO, "keep", (50, 50, 60, 60), "mask"),
    )
    fixes = Fixes(tie=((ONE, TWO),), part=(("0" * 12, "2" * 12),), labels=labels)
    write_fixes(tmp_path / "ensembles", fixes)
    assert read_fixes(tmp_path / "ensembles") == fixes


def test_a_folder_without_the_file_has_no_fixes(tmp_path: Path) -> None:
    assert read_fixes(tmp_path) == Fixes()
    assert read_fixes(tmp_path).digest() == ""


def test_an_answer_replaces_an_earlier_one_about_the_same_box() -> None:
    first, second = LabelFix(ONE, "class", BOX, "mask"), LabelFix(ONE, "remove", BOX, "mask")
    other = LabelFix(TWO, "remove", BOX, "mask")
    fixes = Fixes().with_label(first).with_label(other).with_label(second)
    assert fixes.labels == (other, second)
    assert fixes.without_label(ONE, BOX).labels == (other,)


def test_the_digest_covers_what_changes_labels_in_any_order() -> None:
    first, second = LabelFix(ONE, "class", BOX, "mask"), LabelFix(TWO, "remove", BOX, "mask")
    kept = LabelFix(ONE, "keep", (1, 1, 2, 2), "mask")
    digest = Fixes(labels=(first, second)).digest()
    assert digest == Fixes(labels=(second, kept, first)).digest()
    assert digest != Fixes(labels=(first,)).digest()
    assert Fixes(labels=(kept,)).digest() == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lables: []", "unknown key 'lables'; known keys: tie, part, labels"),
        ("labels: {}x", "labels: expected a list of answers, found str"),
        ("labels: [1]", "labels, line 1: expected the keys image, action, box, name"),
        (f"labels: [{{image: {TWO[1:]}, action: add, box: [1, 2, 3, 4], name: mask}}]", "image: expected a sha256"),
        (f"labels: [{{image: {TWO}, action: drop, box: [1, 2, 3, 4], name: mask}}]", "action: expected one of class"),
        (f"labels: [{{image: {TWO}, action: add, box: [1, 2, 3, 4], name: face}}]", "name: expected one of mask"),
        (f"labels: [{{image: {TWO}, action: add, box: [1, 2, 3], name: mask}}]", "expected a box of four numbers"),
        (f"labels: [{{image: {TWO}, action: add, box: [3, 2, 1, 4], name: mask}}]", "positive width and height"),
        (f"labels: [{{image: {TWO}, action: move, box: [1, 2, 3, 4], name: mask}}]", "to: expected with action move"),
        (
            f"labels: [&a {{image: {TWO}, action: add, box: [1, 2, 3, 4], name: mask}}, *a]",
            "labels, line 2: expected one answer about each box",
        ),
        (f"tie: [[{TWO}, {TWO}]]", "expected two different images"),
        ("tie: [[aaaaaaaaaaaa, bbbbbbbbbbbb]]\npart: [[bbbbbbbbbbbb, aaaaaaaaaaaa]]", "under both"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FIXES).write_text(text.replace("{}x", "text"))
    with pytest.raises(UsageError, match=message.replace("(", r"\(")) as caught:
        read_fixes(tmp_path)
    assert str(tmp_path / FIXES) in str(caught.value)


# ---- pairs that a person ties or parts ----

A, B, C = "a" * 64, "b" * 64, "a" * 12 + "c" * 52


def write(folder: Path, text: str) -> Path:
    (folder / FIXES).write_text(text)
    return folder


def test_without_pairs_there_are_no_fixes(tmp_path: Path) -> None:
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
def test_a_mistake_in_a_pair_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_fixes(write(tmp_path, text))


def test_digests_become_indices_and_absent_images_are_left_out() -> None:
    digests = [B, C, A, A]
    assert pairs_by_index(Path(FIXES), [(A, B), (B[:12], C)], digests) == {(0, 2), (0, 1)}
    assert pairs_by_index(Path(FIXES), [(A, "d" * 64)], digests) == set()
    with pytest.raises(UsageError, match="expected the digits of one image, found 2"):
        pairs_by_index(Path(FIXES), [(A[:12], B)], digests)
