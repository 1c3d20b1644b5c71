"""The command line as a user runs it: in a separate process, without the packages of this test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from helpers.command_line import fmask
from helpers.worlds import make_root, write

COMMANDS = (
    "fetch",
    "build-dataset",
    "inspect",
    "diff",
    "train",
    "evaluate",
    "audit",
    "compare",
    "predict",
    "survey",
    "demo",
    "export",
    "pipeline",
    "runs",
    "runs show",
    "list",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    shown = fmask(*command.split(), "--help", cwd=tmp_path)
    assert shown.returncode == 0
    head, example = shown.stdout.partition("\nExample:\n")[::2]
    assert example.split()[: 1 + len(command.split())] == ["fmask", *command.split()]
    assert "options:" not in head, "the example comes first"
    for option in ("--json", "-q, --quiet", "--root", "-v, --verbose, --debug"):
        assert option in shown.stdout


def every_option() -> list[tuple[str, object, object]]:
    """Return the options of every command: the command's name, the option, and its line on the help page."""
    from typer.main import get_command

    from facemask_train.cli.app import app

    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        context = command.context_class(command, info_name=name, **app.info.context_settings)  # type: ignore[union-attr]
        found += [
            (name, one, one.get_help_record(context)) for one in command.params if one.param_type_name == "option"
        ]
    return found


@pytest.mark.parametrize(("command", "parameter", "record"), every_option(), ids=lambda one: getattr(one, "name", ""))
def test_every_option_has_a_sentence_and_a_plain_type(command: str, parameter: object, record: tuple[str, str]) -> None:
    names, text = record
    assert re.match(r"[A-Zac].*?\.( |$)", text), f"{command} {names}: {text}"
    assert not re.search(r"<(str|int|float|path|list|int range|float range)\b", names), names


@pytest.mark.parametrize("key", ["weights", "epochs", "imgsz", "batch", "seed", "threads"])
def test_a_default_that_a_yaml_sets_is_shown(key: str) -> None:
    from facemask_train.core.config import read_train_settings

    (text,) = [record[1] for command, one, record in every_option() if (command, one.name) == ("train", key)]  # type: ignore[attr-defined]
    value = getattr(read_train_settings(Path("nowhere"), "train", {}), key)
    assert f"({value}, from configs/train.yaml)" in text


@pytest.mark.slow
def test_a_run_an_ensemble_and_a_recipe_are_named_by_position_or_by_option(tmp_path: Path) -> None:
    for same in (["train", "v6"], ["train", "--data", "v6"], ["train", "v6", "--data", "v6"]):
        assert "v6: no finished ensemble" in fmask(*same, cwd=tmp_path).stderr
    for same in (["evaluate", "nobody"], ["evaluate", "--run", "nobody"], ["audit", "nobody"], ["export", "nobody"]):
        assert "nobody: no such run" in fmask(*same, cwd=tmp_path).stderr
    for same in (["build-dataset", "6"], ["build-dataset", "v6"], ["build-dataset", "--version", "6"]):
        assert "v6.yaml: no such file" in fmask(*same, cwd=tmp_path).stderr
    both = fmask("train", "v6", "--data", "v7", cwd=tmp_path)
    assert (both.returncode, "v6 and --data v7 were both given" in both.stderr) == (2, True)


def test_list_names_sources_ensembles_and_runs_with_their_state(tmp_path: Path) -> None:
    make_root(tmp_path)
    assert fmask("fetch", "first", cwd=tmp_path).returncode == 0
    (tmp_path / "data/ensembles/half").mkdir(parents=True)
    found = json.loads(fmask("list", "--json", cwd=tmp_path).stdout)
    states = {one["name"]: one["state"] for one in found["sources"]}
    assert (states["first"], states["second"]) == ("fetched", "not fetched")
    assert found["ensembles"] == [{"name": "half", "state": "unfinished"}]
    assert found["runs"] == []


def test_fetch_and_build_print_only_json_on_standard_output(tmp_path: Path) -> None:
    make_root(tmp_path)
    fetched = fmask("fetch", "first", "second", "--json", cwd=tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    sources = json.loads(fetched.stdout)["sources"]
    assert [(one["name"], one["state"], set(one)) for one in sources] == [
        (name, "fetched", {"name", "path", "digest", "state"}) for name in ("first", "second")
    ]
    built = fmask("build-dataset", "--version", "tiny", "--json", "--workers", "1", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    card = json.loads(built.stdout)
    assert {"name", "path", "hash", "up_to_date", "images", "boxes", "outputs", "splits"} <= set(card)
    assert card["images"] == {"total": 16, "kept": 16, "merged": 0, "repaired": 0, "refused": 0}
    assert (card["name"], card["up_to_date"], card["outputs"]) == ("tiny", False, 16)
    assert sum(card["splits"].values()) == 16
    again = json.loads(fmask("build-dataset", "--version", "tiny", "--json", cwd=tmp_path).stdout)
    assert (again["up_to_date"], again["hash"]) == (True, card["hash"])


def test_quiet_prints_only_errors(tmp_path: Path) -> None:
    make_root(tmp_path)
    done = fmask("fetch", "first", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    failed = fmask("fetch", "frist", "--quiet", cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "did you mean 'first'" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["fetch", "andrewmwd"], 2, "did you mean 'andrewmvd'?"),
        (["build-dataset", "--version", "6"], 4, "v6.yaml: no such file"),
        (["build-dataset", "--version", "5"], 4, "fmask fetch andrewmvd"),
        (["build-dataset", "--class-map", "karm1a=0:mark"], 2, "--class-map karm1a=0:mask,1:no_mask"),
        (["train"], 4, "fmask build-dataset --version 5"),
        (["train", "--resume", "--name", "nobody"], 4, "no such run"),
        (["train", "--resume"], 4, "there is no started run"),
        (["train", "--set", "lr0"], 2, "expected KEY=VALUE"),
        (["train", "--tracker", "tensorboard"], 2, "is not one of 'wandb', 'none'"),
        (["runs", "show"], 4, "fmask train"),
        (["runs", "show", "nobody"], 4, "no such run"),
        (["evaluate"], 4, "fmask train"),
        (["evaluate", "--fail-unless", "map51>=0.9"], 2, "one of: map50"),
        (["evaluate", "--fail-unless", "map50=0.9"], 2, "expected NAME>=NUMBER"),
        (["audit"], 4, "fmask train"),
        (["audit", "--probe", "nowhere"], 4, "nowhere"),
        (["demo", "--port", "0"], 4, "fmask train"),
        (["demo", "--host", "203.0.113.7"], 2, "not an address of this machine"),
        (["compare", "one"], 2, "two or more different runs"),
        (["compare", "one", "other"], 4, "no such run"),
        (["pipeline", "--sample", "--version", "5"], 2, "leave one out"),
        (["fetch", "--from", "nowhere"], 4, "nowhere"),
        (["tarin"], 2, "tarin"),
    ],
)
def test_an_error_has_a_message_and_the_next_step(arguments: list[str], code: int, says: str, tmp_path: Path) -> None:
    done = fmask(*arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_an_error_is_json_with_the_option_json(tmp_path: Path) -> None:
    done = fmask("train", "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit_code"]) == (4, 4)
    assert "fmask build-dataset" in error["next_step"]


def test_foreign_class_names_in_ten_lines_of_yaml(tmp_path: Path) -> None:
    make_root(tmp_path)
    write(tmp_path / "own/second", {"classes.txt": "sin mascarilla\nmascarilla"})
    clinic = {"path": "own/second", "format": "probe", "classes": {"mascarilla": "mask", "sin mascarilla": "no_mask"}}
    sources = {"sources": {"clinic": clinic}}
    recipe = {"name": "clinic", "sources": ["clinic"], "split": {"train": 0.5, "val": 0.25, "test": 0.25}}
    write(
        tmp_path / "configs", {"sources.yaml": yaml.safe_dump(sources), "ensembles/clinic.yaml": yaml.safe_dump(recipe)}
    )
    assert fmask("fetch", "clinic", cwd=tmp_path).returncode == 0
    built = fmask("build-dataset", "--version", "clinic", "--json", "--workers", "1", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["boxes"]["kept"] == 16


def test_debug_shows_a_traceback(tmp_path: Path) -> None:
    assert "Traceback" in fmask("train", "--debug", cwd=tmp_path).stderr


def test_the_version(tmp_path: Path) -> None:
    assert fmask("--version", cwd=tmp_path).stdout.startswith("fmask 0.")
