"""The whole pipeline on small sources: there are metrics, and steps that are up to date are skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helpers.command_line import fmask
from helpers.worlds import make_root, write

TRAINING = {
    "weights": "yolov5n.yaml",
    "epochs": 2,
    "imgsz": 64,
    "batch": 8,
    "device": "cpu",
    "workers": 0,
    "extra": {"nbs": 8, "warmup_epochs": 0},
}


@pytest.mark.slow
def test_a_pipeline_and_its_rerun(tmp_path: Path) -> None:
    make_root(tmp_path, images=12)
    write(tmp_path / "configs", {"small.yaml": yaml.safe_dump(TRAINING)})
    command = ("pipeline", "--version", "tiny", "--config", "small", "--tracker", "none", "--workers", "1", "--json")
    walked = fmask(*command, cwd=tmp_path)
    assert walked.returncode == 0, walked.stderr
    first = json.loads(walked.stdout)
    assert set(first) == {"fetch", "build-dataset", "train", "evaluate"}
    assert set(first["train"]) == {"run", "path", "weights", "epochs", "seconds", "images_per_second"}
    keys = {
        "run",
        "ensemble",
        "split",
        "images",
        "boxes",
        "map50",
        "map50_95",
        "precision",
        "recall",
        "per_class",
        "report",
    }
    assert keys <= set(first["evaluate"])
    assert first["evaluate"]["images"] == first["build-dataset"]["splits"]["test"]
    assert sum(row["n"] for row in first["evaluate"]["per_class"].values()) == first["evaluate"]["boxes"]
    again = json.loads(fmask(*command, cwd=tmp_path).stdout)
    assert [one["state"] for one in again["fetch"]["sources"]] == ["up-to-date", "up-to-date"]
    assert again["build-dataset"]["up_to_date"]
    assert (again["train"], again["evaluate"]) == (first["train"], first["evaluate"])
    assert len(list((tmp_path / "runs").glob("*/run.json"))) == 1
    # other settings are another run
    other = json.loads(fmask(*command, "--epochs", "1", cwd=tmp_path).stdout)
    assert other["train"]["run"] == f"{first['train']['run']}-2"
