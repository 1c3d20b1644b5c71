"""Finished runs as `train` writes them, and their evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from facemask_train.core.files import write_json
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval.evaluate import Evaluation, evaluate
from facemask_train.training.runs import RunRecord
from helpers.known_detector import known_weights


def make_run(root: Path, ensemble: Path, name: str = "r", *, finished: str = "2026-01-01", **changed: Any) -> Path:
    """Write a finished run of training, as `train` leaves one."""
    card = EnsembleCard.load(ensemble)
    folder = root / "runs" / name
    (folder / "weights").mkdir(parents=True)
    shutil.copy(known_weights(), folder / "weights" / "best.pt")
    about = {
        "version": RunRecord.VERSION,
        "name": name,
        "kind": "training",
        "state": "finished",
        "settings": {"weights": "somewhere/yolov5n-face.pt", "imgsz": 64},
        "device": "cpu",
        "ensemble": {
            "name": card.name,
            "path": str(ensemble.relative_to(root)),
            "hash": card.hash,
            "images": dict(card.splits.items()),
        },
        "tracker": {"kind": "wandb", "project": "masks", "run_id": "abc123"},
        "finished": finished,
        "epochs": 12,
        "seconds": 12600.0,
    }
    write_json(folder / "run.json", about | changed)
    return folder


def score(root: Path, **options: Any) -> Evaluation:
    return evaluate(root, **{"device": "cpu", "tracker": "none", "audit": False, **options})
