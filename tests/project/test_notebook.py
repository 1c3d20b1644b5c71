"""The notebook: it is committed without outputs, uses the Python interface, and runs from end to end."""

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
NOTEBOOK = HERE / "notebooks" / "walkthrough.ipynb"


def cells() -> list[Any]:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return list(notebook.cells)


def test_it_has_no_outputs_and_no_local_paths() -> None:
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells())
    assert not re.search(r"/home/|/tmp/|/root", NOTEBOOK.read_text())


def test_it_uses_every_part_of_the_python_interface_and_only_names_that_exist() -> None:
    used = set(re.findall(r"fmask\.(\w+)\(", "\n".join(cell.source for cell in cells() if cell.cell_type == "code")))
    assert used <= set(facemask_train.__all__)
    assert used >= {"fetch", "build_dataset", "train", "evaluate", "audit", "load_model", "survey"}


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
    output = "".join(
        out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()) if out.output_type == "stream"
    )
    for words in ("sample: 399 images", "first: 8 epochs", "mAP 0.5:", "first on 79 images of sample"):
        assert words in output, output
    shown = [set(out.data) for cell in notebook.cells for out in cell.get("outputs", ()) if "data" in out]
    assert sum("text/html" in kinds for kinds in shown) >= 5, "tables, and an image with its faces"
    assert sum("image/png" in kinds or "image/jpeg" in kinds for kinds in shown) == 3
    assert (tmp_path / "walkthrough/runs/first/export/first.onnx").is_file()
