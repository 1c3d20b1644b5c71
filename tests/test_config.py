"""Settings: what ships is right, an unknown key names the known ones, and options become what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemask_train.config import (
    Recipe,
    class_map,
    config_file,
    parse,
    read_recipe,
    read_sources,
    read_train_settings,
    set_option,
)
from facemask_train.errors import MissingError, UsageError


def test_what_ships_is_right(tmp_path: Path) -> None:
    sources = read_sources(tmp_path)
    assert [name for name, source in sources.items() if not source.optional] == ["andrewmvd", "aditya276", "karm1a"]
    assert sources["andrewmvd"].archive_name == "face-mask-detection.zip"
    v5 = read_recipe(tmp_path, "5")
    assert (v5.name, v5.sources, v5.worn_incorrectly) == ("v5", ("andrewmvd", "aditya276"), "drop-image")
    assert (v5.split.train, v5.split.val, v5.split.test) == (0.85, 0.10, 0.05)
    train = read_train_settings(tmp_path, "train", {})
    assert (train.weights, train.imgsz, train.batch, train.epochs, train.patience) == ("yolov5s.pt", 640, 64, 300, 100)
    for recipe in ("5", "v5", "sample"):
        assert set(read_recipe(tmp_path, recipe).sources) <= set(sources)
    read_train_settings(tmp_path, "train-sample", {})


def test_a_users_file_goes_before_the_shipped_one(tmp_path: Path) -> None:
    mine = tmp_path / "configs" / "ensembles" / "v5.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("sources: [karm1a]")
    assert config_file(tmp_path, "ensembles/v5.yaml") == mine
    assert read_recipe(tmp_path, "5").sources == ("karm1a",)
    assert read_recipe(tmp_path, str(mine)).name == "v5"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"sources": ["a"], "splits": {}}, r"unknown key 'splits' \(did you mean 'split'\?\); known keys: name, "),
        ({"sources": ["a"], "split": {"trian": 1}}, r"did you mean 'train'\?\); known keys: train, val, test"),
        ({"sources": ["a"], "split": {"train": 0.5}}, "the shares add up to 1, found 0.65"),
        ({"sources": []}, "sources"),
        ({"sources": ["a", "a"]}, "a source is named once"),
        ({"sources": ["a"], "worn_incorrectly": "drop"}, "worn_incorrectly"),
        ({"sources": ["a"], "name": "../v5"}, "name"),
    ],
)
def test_a_wrong_key_or_value_is_named(data: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(Recipe, {"name": "x", **data}, where="x.yaml")


def test_a_typo_in_a_version_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"did you mean 'sample'\?") as caught:
        read_recipe(tmp_path, "sampel")
    assert "v5" in caught.value.next_step


@pytest.mark.parametrize("text", ["sources: [", "just words", "- a list"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"r\.yaml"):
        read_recipe(tmp_path, str(path))


@pytest.mark.parametrize(
    ("text", "pair"),
    [("lr0=0.005", ("lr0", 0.005)), ("cos_lr=true", ("cos_lr", True)), ("freeze=[0, 1]", ("freeze", [0, 1]))],
)
def test_an_option_is_what_it_looks_like(text: str, pair: tuple[str, object]) -> None:
    assert set_option(text) == pair


def test_other_trainer_settings_go_to_extra_and_own_ones_do_not(tmp_path: Path) -> None:
    settings = read_train_settings(tmp_path, "train", {"lr0": 0.1, "mosaic": 0.5, "epochs": None})
    assert (settings.lr0, settings.epochs, settings.extra) == (0.1, 300, {"mosaic": 0.5})
    with pytest.raises(UsageError, match="epochs"):
        read_train_settings(tmp_path, "train", {"epochs": 0})


def test_a_class_map_is_by_source() -> None:
    assert class_map("karm1a=0:mask,1:no_mask") == ("karm1a", {"0": "mask", "1": "no_mask"})
    for wrong in ("karm1a", "karm1a=", "=0:mask", "karm1a=0:masked", "karm1a=0"):
        with pytest.raises(UsageError, match="expected SOURCE=ID:CLASS"):
            class_map(wrong)
