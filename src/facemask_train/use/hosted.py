"""Serves the demo's page from a folder that `fmask export --format space` wrote. Needs neither torch nor a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from facemask_train.errors import MissingError
from facemask_train.evaluation.threshold import DEFAULT, Threshold
from facemask_train.folders import read_json
from facemask_train.use import demo, uploads
from facemask_train.use.demo_answers import Served
from facemask_train.use.light import load_light
from facemask_train.use.statement import Statement

MARKER, WEIGHTS = "space.json", "model.onnx"


def serve(folder: Path) -> None:
    """Serve a Space's page, on the address and port that Gradio's variables name, until it is ended.

    On Hugging Face that is every address: its proxy stands before the page. Elsewhere it is this machine alone.

    Raises:
        MissingError: the folder is not a Space that fmask wrote.
    """
    about = read_json(folder / MARKER)
    if about is None:
        raise MissingError(f"{folder}: expected a Space, found no {MARKER}", next_step="fmask export --format space")
    everywhere = "0.0.0.0" if "SPACE_ID" in os.environ else demo.HOST
    host = os.environ.get("GRADIO_SERVER_NAME", everywhere)
    port = demo.free_port(host, int(os.environ.get("GRADIO_SERVER_PORT", demo.PORT)))
    demo.serve_page(served(folder, about), host, port, uploads.Limits())


def served(folder: Path, about: dict[str, Any]) -> Served:
    """Return what the page is about, as the Space's own files say."""
    said = about["statement"]
    statement = Statement(
        said["model"], said["warning"], tuple((q, a) for q, a in said["facts"]), tuple(said["limits"])
    )
    detector = load_light(folder / WEIGHTS, imgsz=int(about["imgsz"]))
    start = Threshold(DEFAULT, "default") if detector.point is None else Threshold(detector.point, "export")
    return Served(detector, statement, start)
