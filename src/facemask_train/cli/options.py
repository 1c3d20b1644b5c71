"""The options that commands share, each defined once, and the help page that shows them: the example comes first.

Help is plain text: rendering it with rich takes longer than the rest of `--help`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

INPUT, OUTPUT, MODEL, DEVICE, GENERAL = "Input", "Output", "Model", "Device", "General"
"""The groups of a help page, in this order."""

TrackerKind = Literal["wandb", "none"]
Backend = Literal["local", "ray"]
SplitName = Literal["train", "val", "test"]

DEFAULT_ROOT = Path()


def option(*names: str, group: str, metavar: str | None = None, **given: Any) -> Any:
    """Return a Typer option in a group of the help page; a choice needs no metavar."""
    return typer.Option(*names, rich_help_panel=group, metavar=metavar, **given)


# ---- general ----

Root = Annotated[
    Path,
    option(
        group=GENERAL,
        metavar="PATH",
        help="Project folder with configs/, data/ and runs/.",
        show_default="the current folder",
    ),
]
Json = Annotated[
    bool, option("--json", group=GENERAL, help="Print one JSON object on standard output, all else on standard error.")
]
Quiet = Annotated[bool, option("--quiet", "-q", group=GENERAL, help="Print nothing but errors.")]
Verbose = Annotated[
    bool, option("--verbose", "-v", "--debug", group=GENERAL, help="Print debug messages, and the traceback of errors.")
]

# ---- input ----

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE", help="Images, videos, folders or glob patterns.")]
MaxPixels = Annotated[
    int,
    option("--max-pixels", group=INPUT, metavar="INTEGER", min=1, help="Largest image that is read, in megapixels."),
]
EnsembleName = Annotated[str, typer.Argument(metavar="ENSEMBLE", help="Ensemble: a number (8), a name (v8) or a path.")]
From = Annotated[
    Path | None,
    option("--from", group=INPUT, metavar="PATH", help="Archive, or folder of archives downloaded by hand, to use."),
]
Maps = Annotated[
    list[str] | None,
    option(
        "--class-map",
        group=INPUT,
        metavar="SOURCE=MAP",
        help="Meaning of a source's classes or ids, as in karm1a=0:mask,1:no_mask. Repeatable.",
    ),
]
Data = Annotated[
    str | None,
    option("--data", group=INPUT, metavar="TEXT", help="Ensemble name or path.", show_default="the run's own"),
]
Split = Annotated[SplitName, option(group=INPUT, help="Split to use.")]

# ---- model ----

RunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run name.", show_default="the run that finished last")
]
Run = Annotated[
    str | None,
    option("--run", group=MODEL, metavar="TEXT", help="Run name.", show_default="the run that finished last"),
]
RunAlias = Annotated[str | None, option("--run", group=MODEL, metavar="TEXT", help="Run name: the same as RUN.")]
Weights = Annotated[
    Path | None, option(group=MODEL, metavar="PATH", help="Checkpoint to use instead of a run's best weights.")
]
AnyModel = Annotated[
    Path | None,
    option(
        "--weights",
        group=MODEL,
        metavar="PATH",
        help="Checkpoint (.pt) or export (.onnx, an OpenVINO folder) to use instead of a run's best weights.",
    ),
]
Size = Annotated[
    int | None,
    option(
        group=MODEL,
        metavar="INTEGER",
        min=32,
        max=8192,
        help="Image size: the longer side, in pixels.",
        show_default="the run's",
    ),
]

# ---- output ----

Out = Annotated[
    Path | None,
    option(
        "--output", "-o", "--out",
        group=OUTPUT, metavar="PATH", help="Folder to write.", show_default="a folder below the run's",
    ),
]  # fmt: skip
Tracker = Annotated[TrackerKind, option(group=OUTPUT, help="Experiment tracker to log to.")]
Gates = Annotated[
    list[str] | None,
    option(
        "--fail-unless",
        group=OUTPUT,
        metavar="CONDITION",
        help="Exit with code 9 unless the whole confidence interval meets this, as in 'map50>=0.9', or for the audit"
        " 'bare_excess<=0.5'. Repeatable.",
    ),
]

# ---- device ----

Device = Annotated[
    str | None,
    option(
        group=DEVICE,
        metavar="TEXT",
        help="cpu, the number of a GPU, or several: 0,1 (cpu,cpu starts two processes).",
        show_default="a GPU if there is one",
    ),
]
Workers = Annotated[
    int, option(group=DEVICE, metavar="INTEGER", min=0, help="Number of processes; 0 starts one for each core.")
]
Engine = Annotated[Backend, option("--engine", group=DEVICE, help="Run on this machine, or on a Ray cluster.")]
Batch = Annotated[int, option(group=DEVICE, metavar="INTEGER", min=1, help="Images in a batch.")]

# ---- training ----

Sets = Annotated[
    list[str] | None,
    option(
        "--set", group=MODEL, metavar="KEY=VALUE", help="Any other trainer setting, as in --set lr0=0.005. Repeatable."
    ),
]
Config = Annotated[
    str, option(group=MODEL, metavar="TEXT", help="Training settings: the name of a yaml in configs/, or its path.")
]


def one_of(argument: str | None, alias: str | None, name: str) -> str | None:
    """Return the value of a positional argument or of the option that is its alias.

    Raises:
        UsageError: both were given, and differ.
    """
    from facemask_train.core.errors import UsageError

    if argument is not None and alias is not None and argument != alias:
        raise UsageError(f"{argument} and {name} {alias} were both given", next_step=f"leave {name} out")
    return alias if argument is None else argument


# ---- help pages ----

GROUPS = (INPUT, MODEL, OUTPUT, DEVICE, GENERAL)


class HelpCommand(TyperCommand):
    """A command with an example (its `epilog`), which is shown before the options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _suggesting(error.message)
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _format(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _options(self, ctx, formatter)


def _suggesting(message: str) -> str:
    """Return an error message about a value; if it lists the choices, the closest one is suggested."""
    from facemask_train.core.errors import nearest

    plain = message.removeprefix("Value error, ")
    found = re.fullmatch(r"'(.*)' is not one of (.*)\.", plain)
    if found is None:
        return plain
    choices = re.findall(r"'([^']*)'", found[2])
    return f"{plain.removesuffix('.')}{nearest(found[1], choices)}."


def _options(command: Any, ctx: Any, formatter: Any) -> None:
    found: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{f"{group} options": [] for group in GROUPS}}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            found[_section(parameter)].append(_plain(parameter, *record))
    for title, records in found.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def _plain(parameter: Any, names: str, text: str) -> tuple[str, str]:
    """Return an entry without the type of an argument; a default that is a phrase is shown without parentheses."""
    if parameter.param_type_name == "argument":
        names = names.partition(" ")[0].strip("[]")
    return names, re.sub(r"\[default: \((.*?)\)(?=[;\]])", r"[default: \1", text)


def _section(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return f"{getattr(parameter, 'rich_help_panel', None) or GENERAL} options"


def _format(command: Any, ctx: Any, formatter: Any) -> None:
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    if command.epilog:
        with formatter.section("Example"):
            formatter.write_text(command.epilog)
    command.format_options(ctx, formatter)


class HelpGroup(TyperGroup):
    """A group that lists its commands by their `rich_help_panel`, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        found: dict[str, list[tuple[str, Any]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                found.setdefault(panel if isinstance(panel, str) else "Commands", []).append((name, command))
        width = max((len(name) for rows in found.values() for name, _ in rows), default=0)
        for title, rows in found.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", command.get_short_help_str(200)) for name, command in rows])


class RunsGroup(HelpGroup):
    """A group that is also a command: its help page has an example and options."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _format(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
