"""The command line as a user meets it: in a process of its own, without this test's packages in it."""

from __future__ import annotations

import json
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
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    shown = fmask(*command.split(), "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"Example: fmask {command}" in " ".join(shown.stdout.split())
    for option in ("--json", "--quiet", "--root", "--debug"):
        assert option in shown.stdout


def test_fetch_and_build_speak_json_alone_on_standard_output(tmp_path: Path) -> None:
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


def test_quiet_says_nothing_but_errors(tmp_path: Path) -> None:
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
        (["train", "--resume"], 4, "no started run is here"),
        (["train", "--set", "lr0"], 2, "expected KEY=VALUE"),
        (["train", "--tracker", "tensorboard"], 2, "expected wandb or none"),
        (["runs", "show"], 4, "fmask train"),
        (["runs", "show", "nobody"], 4, "no such run"),
        (["evaluate"], 4, "fmask train"),
        (["evaluate", "--fail-unless", "map51>=0.9"], 2, "one of: map50"),
        (["evaluate", "--fail-unless", "map50=0.9"], 2, "expected NAME>=NUMBER"),
        (["audit"], 4, "fmask train"),
        (["audit", "--probe", "nowhere"], 4, "nowhere"),
        (["demo", "--port", "0"], 4, "fmask train"),
        (["demo", "--host", "203.0.113.7"], 2, "no address of this machine"),
        (["compare", "one"], 2, "two different runs"),
        (["compare", "one", "other"], 4, "no such run"),
        (["pipeline", "--sample", "--version", "5"], 2, "leave one out"),
        (["fetch", "--from", "nowhere"], 4, "nowhere"),
        (["tarin"], 2, "tarin"),
    ],
)
def test_a_wrong_start_gets_a_message_and_the_next_step(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    done = fmask(*arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_an_error_is_json_too_where_json_was_asked_for(tmp_path: Path) -> None:
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


def test_debug_shows_where_it_went_wrong(tmp_path: Path) -> None:
    assert "Traceback" in fmask("train", "--debug", cwd=tmp_path).stderr


def test_the_version(tmp_path: Path) -> None:
    assert fmask("--version", cwd=tmp_path).stdout.startswith("fmask 0.")
