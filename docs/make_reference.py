"""Generate the reference pages: every command from its `--help`, every yaml key from the typed settings.

python docs/make_reference.py            # or: make reference; a test fails if the pages are out of date
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import typer

FOLDER = Path(__file__).parent / "reference"
WIDTH = 80


def commands() -> str:
    """Return the page of every command: its help, as on a terminal of `WIDTH` columns."""
    from facemask_train.cli.app import app

    parts = ["# Every command", "", "Generated from `--help`: this is what `fmask COMMAND --help` prints.", ""]
    fmask = typer.main.get_command(app)
    for path, command in _commands("fmask", fmask):
        text = click.unstyle(command.get_help(_context(path, command, fmask.context_settings)))
        parts += [
            f"{'##' if path == 'fmask' else '###'} {path}",
            "",
            "```text",
            *map(str.rstrip, text.splitlines()),
            "```",
            "",
        ]
    return "\n".join(parts)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}", inner)


def _context(path: str, command: Any, settings: Mapping[str, Any]) -> Any:
    """Return the context of a command on a terminal of `WIDTH` columns, with the settings of its parent."""
    return command.context_class(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH, **settings)


def settings() -> str:
    """Return the page of every key of `configs/`."""
    from facemask_train.core.config import Source, TrainSettings
    from facemask_train.core.recipe import Recipe

    parts = [
        "# Every key of configs/",
        "",
        "Generated from the typed settings. A key that is not in these tables is an error.",
        "",
    ]
    files = {"configs/sources.yaml": Source, "configs/ensembles/NAME.yaml": Recipe, "configs/train.yaml": TrainSettings}
    for file, model in files.items():
        parts += [f"## {file}", ""]
        for one in _models(model):
            parts += _table(one, heading=one is not model)
    return "\n".join(parts)


def _models(model: Any) -> list[Any]:
    """Return a model and those of its keys, each once, in reading order."""
    found = [model]
    for field in model.model_fields.values():
        found += [one for inner in _inside(field.annotation) for one in _models(inner)]
    return list(dict.fromkeys(found))


def _inside(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [one for inner in get_args(annotation) for one in _inside(inner)]


def _table(model: Any, *, heading: bool) -> list[str]:
    intro = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    rest = "\n\n".join(" ".join(part.split()) for part in (model.__doc__ or "").split("\n\n")[1:])
    head = [f"### {model.__name__.lower()}", ""] if heading else []
    rows = [
        f"| `{key}` | {_kind(field)} | {_default(field)} | {field.description} |"
        for key, field in model.model_fields.items()
    ]
    return [
        *head,
        intro,
        "",
        *([rest, ""] if rest else []),
        "| key | takes | default | what it does |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _kind(field: Any) -> str:
    limits = [f"{sign} {value:g}" for part in field.metadata for sign, value in _limits(part)]
    return _type(field.annotation).replace("|", "or") + (f", {' and '.join(limits)}" if limits else "")


def _limits(part: Any) -> Iterator[tuple[str, float]]:
    for name, sign in (("gt", "over"), ("ge", "from"), ("lt", "under"), ("le", "to")):
        if isinstance(value := getattr(part, name, None), (int, float)):
            yield sign, value


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "nothing"
    if origin is Literal:
        return " | ".join(f"`{value}`" for value in inner)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_type(one) for one in inner if one is not type(None))
    if origin is tuple:
        return f"a list of {_type(inner[0])}" if inner[-1] is Ellipsis else "two numbers: the lowest and the highest"
    if origin is dict:
        return f"names, each with {_type(inner[1])}"
    if origin is typing.Annotated:
        return _type(inner[0])
    plain = {str: "text", int: "a whole number", float: "a number", bool: "`true` | `false`", Any: "anything"}
    return plain.get(annotation) or f"keys of {annotation.__name__.lower()}"


def _default(field: Any) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if value in (None, "", {}):
        return "-"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, (list, tuple)) else str(value)


PAGES = {"commands.md": commands, "settings.md": settings}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
