"""`fmask export --format space`: the demo's page as a folder that Hugging Face, or anybody, starts as it is."""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from facemask_train.apps.export import export
from facemask_train.apps.export.space_app import MARKER, WEIGHTS
from facemask_train.apps.model_facts import known, statement
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import digest_data, locked, recover, replacing, write_json
from facemask_train.core.types import Progress, no_progress
from facemask_train.eval.eval_target import EvalSplit, Model, find_model, warn_if_rebuilt
from facemask_train.model.detector import load_detector
from facemask_train.model.onnx_detector import load_onnx_detector
from facemask_train.model.validation import Predictor
from facemask_train.report.html import TEMPLATES
from facemask_train.report.model_card import model_card, render
from facemask_train.training.runs import code_version

PACKAGE = Path(__file__).parents[2]
NEEDS = ("gradio", "jinja2", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyyaml")
"""What the page needs: no torch, so a Space starts in seconds and fits the smallest machine.

What Gradio needs in turn (pydantic, which fmask uses too, among it) is left to its own bounds: Hugging Face installs it
with extras of its own choice, which refuse some of the newest versions that are fine elsewhere.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Space:
    """A finished Space."""

    folder: Path
    up_to_date: bool


def write(
    root: Path,
    *,
    run: str | None = None,
    weights: Path | None = None,
    target: Path | None = None,
    imgsz: int | None = None,
    data: str | None = None,
    split: str | None = None,
    progress: Progress = no_progress,
) -> Space:
    """Write a Space of a model into `runs/NAME/space/` or `target`: page, model, card, and pinned requirements.

    The model is ONNX with suppression inside, and checked against PyTorch as in `export`.

    Raises:
        As `export.export`.
    """
    model = find_model(root, run, weights)
    exam = export.find_checked(root, model, data, split)
    warn_if_rebuilt(model, exam)
    folder = (target if target is not None else model.folder / "space").resolve()
    inputs = _inputs(model, exam, export.rounded_up(model.imgsz(imgsz)))
    with locked(folder):
        recover(folder)
        if _finished(folder, inputs):
            _log.info("%s: up to date", folder)
            return Space(folder, up_to_date=True)
        with replacing(folder) as partial:
            _write(partial, root, model, exam, inputs, progress=progress)
    return Space(folder, up_to_date=False)


def _inputs(model: Model, exam: EvalSplit, imgsz: int) -> dict[str, Any]:
    own = export.inputs_of(model, exam, imgsz, nms=True)
    measured = known(model)
    return {**own, "code": code_version(), "requirements": requirements(), "known": digest_data(asdict(measured))}


def _finished(folder: Path, inputs: Mapping[str, Any]) -> bool:
    found = export.earlier(folder, MARKER)
    return found is not None and found["inputs"] == inputs and (folder / WEIGHTS).is_file()


def _write(
    folder: Path, root: Path, model: Model, exam: EvalSplit, inputs: Mapping[str, Any], *, progress: Progress
) -> None:
    imgsz = inputs["imgsz"]
    files = export.convert(folder, model, exam, ["onnx"], imgsz=imgsz, nms=True)
    files = {export.PYTORCH: model.weights, **files}
    torch = load_detector(model.weights, imgsz=imgsz, device="cpu")
    backends: dict[str, Predictor] = {export.PYTORCH: torch, "onnx": load_onnx_detector(files["onnx"], imgsz=imgsz)}
    rows = export.check(model, exam, backends, files, imgsz=imgsz, progress=progress)
    files["onnx"].replace(folder / WEIGHTS)
    measured = known(model)
    said = statement(model, measured)
    card = model_card(export.card_contents(root, model, imgsz, export.told(model, exam, inputs, ["onnx"], rows)))
    (folder / "model-card.md").write_text(card, encoding="utf-8", newline="\n")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in inputs["requirements"]), encoding="utf-8")
    (folder / "README.md").write_text(
        render(
            "space.md",
            head=_head(model.folder.name),
            name=model.folder.name,
            warning=said.warning,
            facts=said.facts,
            limits=said.limits,
        ),
        encoding="utf-8",
        newline="\n",
    )
    shutil.copy(TEMPLATES / "app.py.txt", folder / "app.py")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / ".gitattributes").write_text("*.onnx filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8")
    _copy_license(folder / "LICENSE")
    about = {"imgsz": imgsz, "statement": asdict(said), "inputs": dict(inputs)}
    write_json(folder / MARKER, about)


def _head(name: str) -> str:
    """Return the settings that Hugging Face reads from the top of a Space's README."""
    head = {
        "title": f"Who wears a mask? {name}",
        "emoji": "😷",
        "colorFrom": "blue",
        "colorTo": "yellow",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "app_file": "app.py",
        "pinned": False,
        "license": "agpl-3.0",
        "short_description": "Counts faces with and without a mask",
    }
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True))


def _copy_license(target: Path) -> None:
    """Put the license's text beside the code, from the checkout or from what was installed."""
    installed = [one.locate() for one in metadata.files("facemask-train") or () if one.name == "LICENSE"]
    for path in (PACKAGE.parents[1] / "LICENSE", *map(Path, map(str, installed))):
        if path.is_file():
            shutil.copy(path, target)
            return
    raise DataError(f"{PACKAGE}: expected the LICENSE of fmask, found none", next_step="install facemask-train again")


def requirements() -> list[str]:
    """Return what the page needs, at the versions that are installed here."""
    return [f"{name}=={version(name)}" for name in NEEDS]


def version(name: str) -> str:
    """Return which version of a package is installed.

    Raises:
        MissingError: none is.
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise MissingError(
            f"a Space takes the package {name}, which is not installed",
            next_step="pip install 'facemask-train[demo,export]'",
        ) from error
