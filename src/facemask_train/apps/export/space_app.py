"""Serve the demo from a folder that `fmask export --format space` wrote. Needs neither torch nor a run."""

from __future__ import annotations

import os
from pathlib import Path

from facemask_train.apps.demo import server, uploads
from facemask_train.apps.demo.handlers import ServedModel
from facemask_train.apps.demo.middleware import AllowedHosts
from facemask_train.apps.export.space_record import WEIGHTS, SpaceRecord
from facemask_train.eval.thresholds import DEFAULT_CONFIDENCE, Threshold
from facemask_train.model.onnx_detector import load_onnx_detector


def serve(folder: Path) -> None:
    """Serve a Space's page until it is stopped, at the address and port in Gradio's environment variables.

    The default is all addresses on Hugging Face, whose proxy is in front of the page, and else this machine alone.

    Raises:
        MissingError: the folder is not a Space that fmask wrote.
    """
    record = SpaceRecord.load(folder)
    everywhere = "0.0.0.0" if "SPACE_ID" in os.environ else server.HOST
    host = os.environ.get("GRADIO_SERVER_NAME", everywhere)
    port = server.free_port(host, int(os.environ.get("GRADIO_SERVER_PORT", server.PORT)))
    hosts = AllowedHosts.of((host, os.environ.get("SPACE_HOST", "")))
    server.serve_page(served_model(folder, record), host, port, uploads.Limits(), hosts=hosts)


def served_model(folder: Path, record: SpaceRecord) -> ServedModel:
    """Load the model of a Space."""
    detector = load_onnx_detector(folder / WEIGHTS, imgsz=record.imgsz)
    point = detector.operating_point
    threshold = Threshold(DEFAULT_CONFIDENCE, "default") if point is None else Threshold(point, "export")
    return ServedModel(detector, record.facts, threshold)
