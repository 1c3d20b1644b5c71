"""Serves the demo's page from a folder that `fmask export --format space` wrote. Needs neither torch nor a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from facemask_train.apps.demo import server, uploads
from facemask_train.apps.demo.handlers import ServedModel
from facemask_train.apps.demo.middleware import AllowedHosts
from facemask_train.apps.model_facts import Statement
from facemask_train.core.errors import MissingError
from facemask_train.core.files import read_json
from facemask_train.eval.thresholds import DEFAULT_CONFIDENCE, Threshold
from facemask_train.model.onnx_detector import load_onnx_detector

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
    everywhere = "0.0.0.0" if "SPACE_ID" in os.environ else server.HOST
    host = os.environ.get("GRADIO_SERVER_NAME", everywhere)
    port = server.free_port(host, int(os.environ.get("GRADIO_SERVER_PORT", server.PORT)))
    hosts = AllowedHosts.of((host, os.environ.get("SPACE_HOST", "")))
    server.serve_page(served(folder, about), host, port, uploads.Limits(), hosts=hosts)


def served(folder: Path, about: dict[str, Any]) -> ServedModel:
    """Return what the page is about, as the Space's own files say."""
    said = about["statement"]
    statement = Statement(
        said["model"], said["warning"], tuple((q, a) for q, a in said["facts"]), tuple(said["limits"])
    )
    detector = load_onnx_detector(folder / WEIGHTS, imgsz=int(about["imgsz"]))
    start = (
        Threshold(DEFAULT_CONFIDENCE, "default")
        if detector.operating_point is None
        else Threshold(detector.operating_point, "export")
    )
    return ServedModel(detector, statement, start)
