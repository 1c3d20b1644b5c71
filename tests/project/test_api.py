"""The Python interface: free to import, and the same functions as the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facemask_train as fmask
from facemask_train.core.errors import MissingError, UsageError
from helpers.shapes import draw_ensemble
from helpers.worlds import make_root

README = Path(__file__).parents[2] / "README.md"
HEAVY = ("torch", "ultralytics", "pandas", "numpy", "cv2", "PIL", "wandb", "typer", "pydantic")


def test_importing_it_imports_nothing_else() -> None:
    code = f"import sys, facemask_train; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_a_function_with_a_docstring() -> None:
    names = [name for name in fmask.__all__ if name != "__version__"]
    assert names == ["audit", "build_dataset", "compare", "evaluate", "fetch", "load_model", "survey", "train"]
    for name in names:
        assert callable(getattr(fmask, name)) and getattr(fmask, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fmask.nothing  # noqa: B018


def test_from_archives_to_an_ensemble(tmp_path: Path) -> None:
    make_root(tmp_path)
    assert [one.state for one in fmask.fetch("first", "second", root=tmp_path)] == ["fetched", "fetched"]
    built = fmask.build_dataset("tiny", workers=1, root=tmp_path)
    assert (built.card.name, built.card.outputs, built.up_to_date) == ("tiny", 16, False)
    assert fmask.build_dataset("tiny", workers=1, root=tmp_path).up_to_date


def test_from_weights_to_a_table_of_faces(tmp_path: Path, untrained_model: Path) -> None:
    ensemble = draw_ensemble(tmp_path)
    scores = fmask.evaluate(weights=untrained_model, data=ensemble, audit=False, device="cpu", root=tmp_path)
    assert scores.metrics.images > 0 and scores.metrics.boxes > 0
    pixels = np.asarray(Image.open(next((ensemble / "images/test").iterdir())).convert("RGB"))
    model = fmask.load_model(untrained_model, device="cpu", root=tmp_path)
    faces = model.predict(pixels, confidence=0.001)
    assert len(faces) > 0, "there is something to compare"
    assert list(faces.to_frame().columns) == ["label", "confidence", "x_min", "y_min", "x_max", "y_max"]
    assert len(faces.to_frame()) == len(faces)


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = README.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert "fmask.train" in code and "predict" in code
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/train-sample.yaml").write_text(
        "{weights: yolov5n.yaml, epochs: 1, imgsz: 64, batch: 16, device: cpu, workers: 0}"
    )
    Image.new("RGB", (96, 96), "gray").save(tmp_path / "me.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})


def test_errors_are_those_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no ensemble has been built here"):
        fmask.train(root=tmp_path)
    with pytest.raises(UsageError, match="epochs"):
        fmask.train(epochs=0, root=tmp_path)
    with pytest.raises(MissingError, match="no such run"):
        fmask.evaluate("nobody", root=tmp_path)
