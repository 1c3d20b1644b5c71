"""The notebook: it is committed as it was written, says the README's commands, and runs from end to end."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import facemask_train

HERE = Path(__file__).resolve().parents[2]
NOTEBOOK = HERE / "notebooks" / "walk.ipynb"


def cells() -> list[Any]:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return list(notebook.cells)


def commands() -> list[str]:
    bash = [cell.source for cell in cells() if cell.source.startswith("%%bash")]
    return [line for source in bash for line in source.splitlines()[1:]]


def test_it_holds_no_outputs_and_no_paths_of_a_machine() -> None:
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells())
    assert not re.search(r"/home/|/tmp/|/root", NOTEBOOK.read_text())


def test_it_walks_every_stage_with_commands_that_exist() -> None:
    from facemask_train.cli.app import app

    known = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback is not None}
    used = [line.split()[1] for line in commands()]
    assert used == [
        *("fetch", "build-dataset", "inspect", "train", "evaluate", "audit", "predict"),
        *("evaluate", "survey", "export"),
    ]
    assert set(used) <= known
    readme = (HERE / "README.md").read_text()
    assert not [name for name in used if f"fmask {name}" not in readme]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    shutil.copy(NOTEBOOK, tmp_path)
    source = str(Path(facemask_train.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", source)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("MPLBACKEND")  # images are to be drawn into the notebook
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    told = "".join(
        out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()) if out.output_type == "stream"
    )
    for words in (
        "sample built: 404 images",
        "run walk: 8 epochs",
        "operating point",
        "of 3 right",
        "wear a mask:",
        "as PyTorch does",
    ):
        assert words in told, told
    drawn = [out for cell in notebook.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert len(drawn) == 6
    assert (tmp_path / "walk/runs/walk/export/walk.onnx").is_file()
