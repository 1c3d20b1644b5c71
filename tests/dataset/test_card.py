"""The card of an ensemble: it survives a round trip, and other versions are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.records import VersionError
from facemask_train.dataset.card import (
    Agreement,
    BuildInputs,
    EnsembleCard,
    FixCounts,
    GroupCounts,
    IssueCount,
    ItemCounts,
    SourceCounts,
    SourceInputs,
    SplitCounts,
)

CARD = EnsembleCard(
    name="x",
    hash="ab",
    images_digest="cd",
    manifest_digest="ef",
    packages={"numpy": "2.0"},
    description="",
    classes=("mask", "no_mask", "worn_incorrectly"),
    split_by="group",
    images=ItemCounts(total=6, kept=3, merged=2, repaired=1, refused=1),
    boxes=ItemCounts(7, 7),
    outputs=4,
    splits=SplitCounts(train=3, val=1),
    originals=SplitCounts(train=2, val=1),
    faces={"train": {"mask": 3, "no_mask": 2, "worn_incorrectly": 1}, "val": {}, "test": {}},
    groups=GroupCounts(groups=1, images=2),
    leaks=0,
    links=None,
    check=None,
    overlap={"s": {"s": 2}},
    agreement=(Agreement("s", "s", 1, 2, 0, 1, 0, None), Agreement("s", "t", 1, 2, 0, 1, 0, 0.9)),
    face_edits={"beard": {"done": 1}},
    fixes=FixCounts(2, 1),
    notes=("A note.",),
    sources={"s": SourceCounts(ItemCounts(6, 3), {"mask": ItemCounts(7, 7)})},
    issues=(IssueCount("image", "refused", "truncated", 1),),
    inputs=BuildInputs(
        (3, 3, 2),
        {"name": "x", "split": {"train": 1.0}},
        {"s": SourceInputs("00", "voc", {"a": "mask"}, 0.05, {"rows": 10}, "auto")},
    ),
)


def test_a_card_survives_a_round_trip(tmp_path: Path) -> None:
    CARD.save(tmp_path)
    assert EnsembleCard.load(tmp_path) == CARD
    assert json.loads((tmp_path / "ensemble.json").read_text())["version"] == EnsembleCard.VERSION


def test_faces_of_a_split_are_summed_over_all_classes() -> None:
    assert (CARD.faces_in("train"), CARD.faces_in("val")) == (6, 0)


def test_split_counts_are_read_by_split() -> None:
    assert list(CARD.splits.items()) == [("train", 3), ("val", 1), ("test", 0)]
    assert (CARD.splits["train"], CARD.splits.total) == (3, 4)
    with pytest.raises(KeyError):
        CARD.splits["none"]


@pytest.mark.parametrize("version", [1, 99, None])
def test_a_card_of_another_version_names_what_to_run(tmp_path: Path, version: int | None) -> None:
    CARD.save(tmp_path)
    path = tmp_path / "ensemble.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
    with pytest.raises(
        VersionError, match=rf"ensemble\.json: expected version {EnsembleCard.VERSION}, found"
    ) as caught:
        EnsembleCard.load(tmp_path)
    assert "fmask build-dataset" in caught.value.next_step


def test_a_card_that_is_missing_or_damaged_names_the_field(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"ensemble\.json"):
        EnsembleCard.load(tmp_path)
    CARD.save(tmp_path)
    path = tmp_path / "ensemble.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "leaks": "many"}))
    with pytest.raises(DataError, match=r"ensemble\.json: leaks: "):
        EnsembleCard.load(tmp_path)
