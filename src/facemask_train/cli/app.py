"""The command line: each command parses its options, calls one function, and prints what it returned.

Exit codes: 0 success; 1 unexpected error; 2 wrong name, option, key or value; 3 unusable input; 4 the output of an
earlier step is missing; 5 Kaggle credentials or license; 6 network; 7 disk or permission; 8 training stopped;
9 a condition of --fail-unless was not met; 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from facemask_train import __version__
from facemask_train.cli import data, evaluation, runs, survey, training, usage
from facemask_train.cli.options import HelpCommand, HelpGroup

_CODES = (
    "Exit codes: 0 done, 1 unexpected error, 2 wrong name or value, 3 unusable input, 4 an earlier step is missing,"
    " 5 Kaggle credentials or license, 6 network, 7 disk or permission, 8 training stopped, 9 a condition of"
    " --fail-unless does not hold, 130 interrupted."
)
DATA, TRAINING, EVALUATION, USE, PROJECT = "Data", "Training", "Evaluation", "Use a model", "This project"
app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rendering it with rich takes longer than everything else
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=_CODES,
    help="Train and evaluate a face-mask detector, from archives to a report. Start with: fmask pipeline --sample",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fmask {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _add(panel: str, body: Any, example: str, name: str = "") -> None:
    """Add a command with its example to one section of the list of commands."""
    found = name or body.__name__.replace("_", "-")
    app.command(found, cls=HelpCommand, rich_help_panel=panel, epilog=example)(body)


_add(DATA, data.fetch, "fmask fetch andrewmvd aditya276 --from ~/Downloads")
_add(DATA, data.build_dataset, "fmask build-dataset v8")
_add(DATA, data.inspect, "fmask inspect v8 --duplicates")
_add(DATA, data.diff, "fmask diff v5 v8")
_add(TRAINING, training.train, "fmask train v8 --epochs 100 --batch 16 --set lr0=0.005")
_add(TRAINING, training.pipeline, "fmask pipeline --sample")
_add(EVALUATION, evaluation.evaluate, "fmask evaluate v8-yolov5s --split test --fail-unless 'map50>=0.9'")
_add(EVALUATION, evaluation.audit, "fmask audit v8-yolov5s --probe ~/images/batmans")
_add(EVALUATION, evaluation.compare, "fmask compare v5-yolov5s v8-yolov5s --data v8")
_add(USE, usage.predict, "fmask predict ~/images 'clips/*.mp4' --save images --save csv --anonymize")
_add(
    USE,
    survey.survey,
    "fmask survey market/ clips/gate.mp4 --by hour --places places.csv --start '2026-11-25 08:00'",
)
_add(USE, usage.demo, "fmask demo v8-yolov5s --port 7860")
_add(USE, usage.export, "fmask export v8-yolov5s --format onnx --format openvino")
_add(PROJECT, data.init, "fmask init wards")
_add(PROJECT, data.list_all, "fmask list", name="list")
app.add_typer(runs.app, name="runs", rich_help_panel=PROJECT)
_add(PROJECT, data.info, "fmask info")


def main() -> None:
    """Run `fmask`."""
    app()
