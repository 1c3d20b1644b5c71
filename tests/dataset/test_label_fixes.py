"""Corrections of labels by hand: on literal labels, and in a rebuilt ensemble."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemask_train.core.config import FIXES
from facemask_train.core.errors import UsageError
from facemask_train.core.files import digest_file
from facemask_train.core.fixes import Fixes, LabelFix, read_fixes, write_fixes
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Annotation, Box, Corners, ImageRecord
from facemask_train.dataset.build import build
from facemask_train.dataset.card import EnsembleCard, FixCounts
from facemask_train.dataset.contents import read_contents
from facemask_train.dataset.grouping.groups import Kept
from facemask_train.dataset.label_fixes import apply_label_fixes, corrected
from facemask_train.sources.fetch import fetch
from helpers.worlds import HEIGHT, WIDTH, make_root

SHA = "a" * 64
LEFT, RIGHT, FREE = (10.0, 10.0, 40.0, 40.0), (50.0, 5.0, 80.0, 45.0), (60.0, 50.0, 70.0, 60.0)
LABELS = (Annotation("mask", Box(*LEFT)), Annotation("no_mask", Box(*RIGHT)))


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        (LabelFix(SHA, "class", LEFT, "no_mask"), [("no_mask", LEFT), ("no_mask", RIGHT)]),
        (LabelFix(SHA, "remove", LEFT, "mask"), [("no_mask", RIGHT)]),
        (LabelFix(SHA, "add", FREE, "mask"), [("mask", LEFT), ("no_mask", RIGHT), ("mask", FREE)]),
        (LabelFix(SHA, "move", LEFT, "mask", to=(0, 0, 5, 5)), [("mask", (0, 0, 5, 5)), ("no_mask", RIGHT)]),
        (LabelFix(SHA, "move", RIGHT, "mask", to=(50, 5, 99, 45)), [("mask", LEFT), ("mask", (50, 5, 96, 45))]),
        (LabelFix(SHA, "class", (10.0, 10.0, 40.0, 41.0), "no_mask"), [("no_mask", LEFT), ("no_mask", RIGHT)]),
    ],
)
def test_each_correction_changes_one_label(fix: LabelFix, expected: list[tuple[str, Corners]]) -> None:
    labels, applied = corrected(LABELS, [fix], WIDTH, HEIGHT)
    assert [(one.name, one.box.corners) for one in labels] == expected
    assert applied == 1


def test_a_correction_without_its_image_or_label_is_not_found() -> None:
    kept = (Kept(ImageRecord("s", "a.jpg", SHA, WIDTH, HEIGHT, LABELS), "train", SHA),)
    fixes = (
        LabelFix(SHA, "class", FREE, "mask"),
        LabelFix("b" * 64, "remove", LEFT, "mask"),
        LabelFix(SHA, "keep", RIGHT, "no_mask"),
        LabelFix(SHA, "remove", LEFT, "mask"),
    )
    fixed, counts = apply_label_fixes(kept, Fixes(labels=fixes))
    assert counts == FixCounts(applied=1, not_found=2)
    assert fixed[0].record.labels == LABELS[1:]
    assert apply_label_fixes(kept, Fixes()) == (kept, FixCounts())


def test_a_rebuilt_ensemble_has_the_corrected_labels(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=6, recipe={"sources": ["first"]})
    fetch(root, ["first"])
    before = _build(root)
    folder, published = root / "configs/ensembles", root / "own/first/images/a0.png"
    sha = digest_file(published)
    write_fixes(folder, Fixes(labels=(LabelFix(sha, "class", LEFT, "no_mask"), LabelFix(sha, "remove", RIGHT, "mask"))))
    after = _build(root)
    assert (after.fixes, before.fixes) == (FixCounts(2, 0), FixCounts())
    assert after.hash != before.hash
    assert after.images_digest == before.images_digest, "no image changes"
    assert "Labels corrected by hand (fixes.yaml): 2 of 2." in after.notes
    image = next(one for one in read_contents(root, "tiny").images if one.sha256 == sha)
    assert [(one.name, one.box.corners) for one in image.labels] == [("no_mask", LEFT)]
    written = (root / "data/ensembles/tiny" / image.image.replace("images/", "labels/")).with_suffix(".txt")
    assert written.read_text().startswith("1 ")
    assert len(written.read_text().splitlines()) == 1
    assert build(root, "tiny", pool=WorkerPool(workers=1)).up_to_date
    (folder / FIXES).unlink()
    assert _build(root).hash == before.hash


def test_an_answer_that_changes_nothing_does_not_rebuild(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=6, recipe={"sources": ["first"]})
    fetch(root, ["first"])
    _build(root)
    write_fixes(root / "configs/ensembles", Fixes(labels=(LabelFix(SHA, "keep", LEFT, "mask"),)))
    assert build(root, "tiny", pool=WorkerPool(workers=1)).up_to_date


def test_fixes_are_not_taken_for_a_recipe_and_faults_stop_the_build(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=6, recipe={"sources": ["first"]})
    fetch(root, ["first"])
    (root / "configs/ensembles" / FIXES).write_text("lable: []\n")
    with pytest.raises(UsageError, match="unknown key 'lable'"):
        build(root, "tiny", pool=WorkerPool(workers=1))
    assert read_fixes(root).labels == ()


def _build(root: Path) -> EnsembleCard:
    result = build(root, "tiny", pool=WorkerPool(workers=1))
    assert not result.up_to_date
    return result.card
