"""A Space: a self-contained folder that runs in an environment made from its own requirements, without torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from facemask_train.apps.demo.counts import above_threshold, count_faces, describe_counts
from facemask_train.apps.export import parity, space, space_app
from facemask_train.apps.export.space_record import SpaceRecord
from facemask_train.apps.model_facts import ModelFacts
from facemask_train.core.errors import MissingError, UsageError
from facemask_train.eval.records.metrics import Metrics
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import load_detector, one_per_face
from helpers import shapes
from helpers.known_detector import known_weights
from helpers.runs import make_run, score


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("space")
    make_run(root, shapes.draw_ensemble(root))
    score(root)
    return root


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    made = space.write(root)
    assert not made.up_to_date
    return made.folder


def test_a_space_contains_everything_it_needs(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("app.py", "facemask_train", "LICENSE", "model.onnx", "model-card.md", "README.md", "requirements.txt"),
        *("space.json", ".gitattributes"),
    }
    assert (folder / "facemask_train/apps/export/space_app.py").is_file()
    assert (folder / "facemask_train/report/templates/demo.html").is_file()
    assert not list(folder.rglob("__pycache__"))
    assert "filter=lfs" in (folder / ".gitattributes").read_text()


def test_its_head_and_requirements_name_this_environment(folder: Path) -> None:
    from importlib.metadata import version

    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (head["sdk"], head["app_file"], head["license"]) == ("gradio", "app.py", "agpl-3.0")
    assert head["sdk_version"] == version("gradio")
    assert re.fullmatch(r"3\.\d+", head["python_version"])
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert f"gradio=={version('gradio')}" in lines
    assert f"onnxruntime=={version('onnxruntime')}" in lines
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    assert not [line for line in lines if line.startswith(("torch", "ultralytics"))]


def test_it_shows_the_facts_of_the_demo(root: Path, folder: Path) -> None:
    record = SpaceRecord.load(folder)
    metrics = Metrics.load(root / "runs/r/evaluation/v5-test")
    served = space_app.served_model(folder, record)
    assert served.threshold == Threshold(metrics.operating_point.threshold, "export"), "the file itself says it"
    assert isinstance(served.facts, ModelFacts)
    assert served.facts.facts[0][0] == "Trained on"
    assert served.facts.warning in (folder / "README.md").read_text()
    assert str(root) not in (folder / "space.json").read_text() + (folder / "README.md").read_text()


def test_it_is_not_written_twice_and_replaces_no_other_files(root: Path, folder: Path, tmp_path: Path) -> None:
    assert space.write(root).up_to_date
    (tmp_path / "s").mkdir()
    (tmp_path / "s/diary.txt").write_text("dear")
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        space.write(root, target=tmp_path / "s")
    with pytest.raises(MissingError, match=r"space\.json: no such file"):
        space_app.serve(tmp_path / "s")


@pytest.mark.slow
def test_it_loads_neither_torch_nor_ultralytics(folder: Path) -> None:
    tried = (
        "import sys; from pathlib import Path;"
        "from facemask_train.apps.demo import page, uploads; from facemask_train.apps.export import space_app;"
        "from facemask_train.apps.export.space_record import SpaceRecord;"
        "served = space_app.served_model(Path(), SpaceRecord.load(Path()));"
        "page.build(served, uploads.Limits(), Path());"
        "print([one for one in ('torch', 'torchvision', 'ultralytics') if one in sys.modules])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.'); {tried}"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# ---- started ----


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def started(python: Path, folder: Path, home: Path) -> Iterator[str]:
    """Start a Space as Hugging Face does, from its own folder, with nothing of this environment."""
    port = free_port()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "GRADIO_SERVER_PORT": str(port)}
    with (home / "log").open("w") as log:
        running = subprocess.Popen([python, "app.py"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert running.poll() is None, (home / "log").read_text()
            try:
                requests.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(30)


def ask(url: str, image: Path, threshold: float) -> str:
    """Send an image as the page does, and return what it says of it."""
    offered = requests.get(f"{url}/config", timeout=10).json()["dependencies"]
    number = next(one["id"] for one in offered if one["targets"] and one["targets"][0][1] == "upload")
    with image.open("rb") as stream:
        (path,) = requests.post(f"{url}/gradio_api/upload", files={"files": stream}, timeout=30).json()
    file = {"path": path, "orig_name": image.name, "meta": {"_type": "gradio.FileData"}}
    request: dict[str, Any] = {"data": [file, threshold], "fn_index": number, "session_hash": "one"}
    requests.post(f"{url}/gradio_api/queue/join", json=request, timeout=30).raise_for_status()
    events = requests.get(f"{url}/gradio_api/queue/data", params={"session_hash": "one"}, stream=True, timeout=60)
    for line in events.iter_lines():
        message = json.loads(line[6:]) if line else {}
        if message.get("msg") == "process_completed":
            assert message["success"], message
            return str(message["output"]["data"])
    raise AssertionError("the page gave no answer")


@pytest.fixture(scope="module")
def python(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has what the Space's requirements say, and nothing else."""
    place = tmp_path_factory.mktemp("environment")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place / "venv"], check=True)
    own = place / "venv/bin/python"
    filled = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", own, "-r", folder / "requirements.txt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if filled.returncode and re.search("resolve|connect|fetch|download|lookup", filled.stderr):
        pytest.skip(f"no network to install from: {filled.stderr[-200:]}")
    assert not filled.returncode, filled.stderr
    return own


@pytest.mark.slow
def test_it_starts_from_its_own_folder_in_a_fresh_environment_and_counts(
    root: Path, folder: Path, python: Path, tmp_path: Path
) -> None:
    held = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in held.stderr
    copied = shutil.copytree(folder, tmp_path / "anywhere")
    own = load_detector(known_weights(), imgsz=64, device="cpu")
    threshold, faces = 0.25, 0
    with started(python, copied, tmp_path) as url:
        for image in sorted((root / "data/ensembles/v5/images/test").iterdir()):
            (found,) = own.predict([parity.read_image(image)], confidence=threshold)
            wanted = count_faces(above_threshold(one_per_face(found), threshold))
            assert describe_counts(wanted, threshold) in ask(url, image, threshold)
            faces += wanted.faces
    assert faces == 9  # eight of the nine labeled faces, and a false box
