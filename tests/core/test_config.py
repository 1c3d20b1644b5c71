"""Settings: the shipped files are valid, an unknown key names the known ones, and options are parsed as yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facemask_train.core.config import (
    class_map,
    config_file,
    parse,
    read_sources,
    read_train_settings,
    read_yaml,
    set_option,
)
from facemask_train.core.errors import MissingError, UsageError
from facemask_train.core.recipe import Recipe, read_recipe


def test_the_shipped_settings_are_valid(tmp_path: Path) -> None:
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


def test_a_users_file_overrides_the_shipped_one(tmp_path: Path) -> None:
    mine = tmp_path / "configs" / "ensembles" / "v5.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("sources: [karm1a]")
    assert config_file(tmp_path, "ensembles/v5.yaml") == mine
    assert read_recipe(tmp_path, "5").sources == ("karm1a",)
    assert read_recipe(tmp_path, str(mine)).name == "v5"


def _copy(step: dict) -> dict:
    return {"sources": ["a"], "augment": {"copies": {"c": [step]}}}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"sources": ["a"], "splits": {}}, r"unknown key 'splits' \(did you mean 'split'\?\); known keys: name, "),
        ({"sources": ["a"], "split": {"trian": 1}}, r"did you mean 'train'\?\); known keys: train, val, test"),
        ({"sources": ["a"], "split": {"train": 0.5}}, "the fractions must add up to 1, found 0.65"),
        ({"sources": []}, "sources"),
        ({"sources": ["a", "a"]}, "each source may be listed only once"),
        ({"sources": ["a"], "worn_incorrectly": "drop"}, "worn_incorrectly"),
        ({"sources": ["a"], "name": "../v5"}, "name"),
        ({"sources": ["a"], "split": "published", "conflicts": {"prefer": "a"}}, "remove one of them"),
        ({"sources": ["a"], "name": "v" * 101}, "name"),
        (_copy({"scale": {"factor": [0, 1]}}), "greater than or equal to 0.1"),
        (_copy({"scale": {"factor": [1, 1000]}}), "less than or equal to 4"),
        (_copy({"scale": {"factor": [2, 1]}}), "the lower value comes first"),
        (_copy({"noise": {"strength": [0.1, 2]}}), "less than or equal to 1"),
        (_copy({"compression": {"quality": [0, 50]}}), "greater than or equal to 1"),
        (_copy({"faces": {"kinds": {"cap": 0, "tint": 0}}}), "at least one kind needs a weight above 0"),
        (_copy({"faces": {"kinds": {"cap": -1, "tint": 1}}}), "greater than or equal to 0"),
        (_copy({"faces": {"kinds": {"cap": float("inf")}}}), "finite"),
        (_copy({"faces": {"kinds": {"cap": float("nan")}}}), "kinds.cap: "),
        (_copy({"faces": {"kinds": {"hood": 1}}}), "kinds.hood: Input should be 'recolor'"),
    ],
)
def test_a_wrong_key_or_value_is_named(data: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(Recipe, {"name": "x", **data}, where="x.yaml")


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "a\\b", ".hidden", "", "-option", "x" * 101])
def test_a_source_name_that_is_not_a_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    """It names a folder of data/raw/, and nothing outside of it."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/sources.yaml").write_text(json.dumps({"sources": {name: {"path": "x"}}}))
    with pytest.raises(UsageError, match="that can be a folder name"):
        read_sources(tmp_path)


def test_a_typo_in_a_version_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"did you mean 'sample'\?") as caught:
        read_recipe(tmp_path, "sampel")
    assert "v5" in caught.value.next_step


@pytest.mark.parametrize("text", ["sources: [", "just words", "- a list"])
def test_a_file_that_is_not_a_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"r\.yaml"):
        read_recipe(tmp_path, str(path))


@pytest.mark.parametrize(
    ("text", "pair"),
    [("lr0=0.005", ("lr0", 0.005)), ("cos_lr=true", ("cos_lr", True)), ("freeze=[0, 1]", ("freeze", [0, 1]))],
)
def test_option_values_are_parsed_as_yaml(text: str, pair: tuple[str, object]) -> None:
    assert set_option(text) == pair


def test_only_unknown_trainer_settings_go_to_extra(tmp_path: Path) -> None:
    settings = read_train_settings(tmp_path, "train", {"lr0": 0.1, "mosaic": 0.5, "epochs": None})
    assert (settings.lr0, settings.epochs, settings.extra) == (0.1, 300, {"mosaic": 0.5})
    with pytest.raises(UsageError, match="epochs"):
        read_train_settings(tmp_path, "train", {"epochs": 0})


def test_a_class_map_is_by_source() -> None:
    assert class_map("karm1a=0:mask,1:no_mask") == ("karm1a", {"0": "mask", "1": "no_mask"})
    for wrong in ("karm1a", "karm1a=", "=0:mask", "karm1a=0:masked", "karm1a=0"):
        with pytest.raises(UsageError, match="expected SOURCE=ID:CLASS"):
            class_map(wrong)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("description: 2020-13-45", r"expected a valid date \(quote it if it is text\), found '2020-13-45': month"),
        ("description: 0000-01-01", r"expected a valid date .* found '0000-01-01': year 0 is out of range"),
        ("description: 2020-01-01 25:61:61", "expected a valid date"),
        ("seed: " + "9" * 5000, r"expected a valid number .* found '9+\.\.\.9+': Exceeds the limit"),
        ("seed: !!int x", "expected a valid number .* found 'x'"),
        ("seed: !!bool x", "expected a valid true or false .* found 'x'"),
        ("seed: !!timestamp x", "expected a valid date .* found 'x'"),
        ("sources: " + "[" * 3000 + "]" * 3000, "expected at most 100 levels of lists and mappings"),
        ("sources: " + "{a: " * 3000, "expected at most 100 levels of lists and mappings"),
        ('name: "\\Uffffffff"', "expected a character of Unicode"),
        ("name: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_an_invalid_value_is_named_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "r.yaml").write_text(f"# a comment\n{line}\n")
    with pytest.raises(UsageError, match=r"r\.yaml: not valid yaml: line 2, column \d+: " + says) as caught:
        read_recipe(tmp_path, str(tmp_path / "r.yaml"))
    assert len(str(caught.value)) < 1000
    with pytest.raises(UsageError, match="the value is not valid yaml"):
        set_option(f"x={line.partition(': ')[2]}")


def test_yaml_is_read_up_to_the_limit_of_its_depth(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: " + "[" * 98 + "]" * 98)
    deep = read_yaml(tmp_path / "a.yaml")["a"]
    for _ in range(97):
        (deep,) = deep
    assert deep == []


def test_aliases_that_grow_without_end_do_not_fill_a_message(tmp_path: Path) -> None:
    aliases = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    (tmp_path / "r.yaml").write_text(f"a0: &a0 [x, x]\n{aliases}sources: *a11\n")
    with pytest.raises(UsageError, match=r"sources\.0: Input should be a valid string") as caught:
        parse(Recipe, {"name": "r", "sources": read_yaml(tmp_path / "r.yaml")["a11"]}, where="r.yaml")
    assert len(str(caught.value)) < 10_000
