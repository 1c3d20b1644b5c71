"""Corrections of labels by hand, in a rebuilt ensemble: what changes, what the books say, and what is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facemask_train.core.config import FIXES
from facemask_train.core.errors import UsageError
from facemask_train.core.files import digest_file
from facemask_train.core.fixes import Fixes, LabelFix, label_fix, read_fixes, write_fixes
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Corners
from facemask_train.dataset.build import build
from facemask_train.dataset.card import EnsembleCard, FixCounts
from facemask_train.dataset.contents import read_contents
from facemask_train.sources.fetch import fetch
from helpers.worlds import make_root

LEFT, RIGHT, FREE = (10.0, 10.0, 40.0, 40.0), (50.0, 5.0, 80.0, 45.0), (82.0, 50.0, 92.0, 60.0)
BEFORE = [("mask", LEFT), ("no_mask", RIGHT)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = make_root(tmp_path, images=6, recipe={"sources": ["first"]})
    fetch(made, ["first"])
    return made


def sha(root: Path, image: str = "a0") -> str:
    return digest_file(root / f"own/first/images/{image}.png")


def fix(root: Path, action: str, box: Corners, name: str, image: str = "a0", **given: object) -> LabelFix:
    return label_fix({"image": sha(root, image), "action": action, "box": list(box), "name": name, **given})


def rebuilt(root: Path, *fixes: LabelFix) -> EnsembleCard:
    write_fixes(root / "configs/ensembles", Fixes(labels=fixes))
    return build(root, "tiny", pool=WorkerPool(workers=1)).card


def labels(root: Path, image: str = "a0") -> list[tuple[str, Corners]]:
    found = next(one for one in read_contents(root, "tiny").images if one.sha256 == sha(root, image))
    return [(one.name, one.box.corners) for one in found.labels]


@pytest.mark.parametrize(
    ("answer", "expected", "issue"),
    [
        (("class", LEFT, "no_mask"), [("no_mask", LEFT), BEFORE[1]], ("repaired", "corrected-by-hand", "mask")),
        (
            ("class", (10.0, 10.0, 40.0, 41.0), "no_mask"),
            [("no_mask", LEFT), BEFORE[1]],
            ("repaired", "corrected-by-hand", "mask"),
        ),
        (("remove", LEFT, "mask"), BEFORE[1:], ("refused", "removed-by-hand", "mask")),
        (("add", FREE, "mask"), [*BEFORE, ("mask", FREE)], ("repaired", "added-by-hand", "mask")),
        (
            ("move", RIGHT, "no_mask", (60.0, 5.0, 99.0, 45.0)),
            [BEFORE[0], ("no_mask", (60.0, 5.0, 96.0, 45.0))],
            ("repaired", "corrected-by-hand", "no_mask"),
        ),
    ],
)
def test_each_correction_changes_one_label_and_the_books(
    root: Path, answer: tuple[Any, ...], expected: object, issue: tuple[str, ...]
) -> None:
    action, box, name, *to = answer
    card = rebuilt(root, fix(root, action, box, name, **({"to": list(to[0])} if to else {})))
    assert labels(root) == expected
    assert labels(root, "a1") == BEFORE
    assert card.fixes == FixCounts(applied=1)
    assert "Labels corrected by hand (fixes.yaml): 1 of 1." in card.notes
    issues = [one for one in read_contents(root, "tiny").issues if "by-hand" in one.cause]
    assert [(one.action, one.cause, one.label) for one in issues] == [issue]
    counts = card.boxes
    assert counts.total == counts.kept + counts.merged + counts.refused == 12 + (action == "add")
    written = next(one for one in read_contents(root, "tiny").images if one.sha256 == sha(root)).image
    path = (root / "data/ensembles/tiny" / written.replace("images/", "labels/")).with_suffix(".txt")
    assert len(path.read_text().splitlines()) == len(labels(root))


def test_corrections_are_part_of_what_an_ensemble_is(root: Path) -> None:
    before = rebuilt(root)
    wrong = fix(root, "class", LEFT, "no_mask")
    after = rebuilt(root, wrong)
    assert after.hash != before.hash
    assert after.inputs != before.inputs
    assert after.images_digest == before.images_digest, "no image changes"
    again = build(root, "tiny", pool=WorkerPool(workers=1))
    assert again.up_to_date
    confirmed = rebuilt(root, wrong, fix(root, "keep", RIGHT, "no_mask"))
    assert confirmed.hash == after.hash, "an answer that changes nothing does not rebuild"
    (root / "configs/ensembles" / FIXES).unlink()
    assert build(root, "tiny", pool=WorkerPool(workers=1)).card.hash == before.hash


def test_corrections_are_counted(root: Path) -> None:
    card = rebuilt(
        root,
        fix(root, "class", LEFT, "no_mask"),
        fix(root, "add", (50.0, 5.0, 80.0, 44.0), "no_mask"),  # it is there already
        fix(root, "class", FREE, "mask"),
        fix(root, "keep", RIGHT, "no_mask"),
        LabelFix("f" * 64, "remove", LEFT, "mask"),
    )
    assert card.fixes == FixCounts(applied=2, not_found=2)
    assert "Labels corrected by hand (fixes.yaml): 2 of 4; 2 found no such image or label here." in card.notes
    assert labels(root) == [("no_mask", LEFT), BEFORE[1]]


def test_an_image_whose_only_faces_are_removed_stays_as_background(root: Path) -> None:
    card = rebuilt(root, fix(root, "remove", LEFT, "mask"), fix(root, "remove", RIGHT, "no_mask"))
    assert labels(root) == []
    assert card.images.kept == 6
    assert card.boxes.refused == 2


def test_fixes_are_not_taken_for_a_recipe_and_faults_stop_the_build(root: Path) -> None:
    (root / "configs/ensembles").mkdir(parents=True, exist_ok=True)
    (root / "configs/ensembles" / FIXES).write_text("lable: []\n")
    with pytest.raises(UsageError, match="unknown key 'lable'"):
        build(root, "tiny", pool=WorkerPool(workers=1))
    assert read_fixes(root).labels == ()
