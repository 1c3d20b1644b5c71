"""`fmask export --format space`: the demo as a folder that runs on Hugging Face, or anywhere, as it is."""

from __future__ import annotations

import logging
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from facemask_train.apps.export import export
from facemask_train.apps.export.card import card_contents
from facemask_train.apps.export.space_record import WEIGHTS, SpaceInputs, SpaceRecord
from facemask_train.apps.export.verify import PYTORCH, verify
from facemask_train.apps.model_facts import ModelFacts, find_measurements, model_facts
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import digest_data, replacing, stage
from facemask_train.core.records import to_json
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
"""The packages that the page needs: no torch, so a Space starts in seconds and fits the smallest machine.

The dependencies of Gradio, such as pydantic, which fmask uses too, are left to Gradio's own bounds. Hugging Face
installs Gradio with extras that exclude some of their newest versions.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpaceResult:
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
) -> SpaceResult:
    """Write a Space of a model into `runs/NAME/space/` or `target`: page, model, card and pinned requirements.

    The model is an ONNX file with non-maximum suppression, verified against PyTorch as in `export`.

    Raises:
        As `export.export`.
    """
    model = find_model(root, run, weights)
    checked = export.find_check_split(root, model, data, split)
    warn_if_rebuilt(model, checked)
    folder = (target if target is not None else model.folder / "space").resolve()
    inputs = _inputs(model, checked, export.round_up(model.imgsz(imgsz)))
    with stage(folder):
        if _finished(folder, inputs):
            _log.info("%s: up to date", folder)
            return SpaceResult(folder, up_to_date=True)
        with replacing(folder) as partial:
            _write(partial, root, model, checked, inputs, progress=progress)
    return SpaceResult(folder, up_to_date=False)


def _inputs(model: Model, split: EvalSplit, imgsz: int) -> SpaceInputs:
    return SpaceInputs(
        export=export.export_inputs(model, split, imgsz, nms=True),
        code=code_version(),
        requirements=tuple(requirements()),
        measurements=digest_data(to_json(find_measurements(model))),
    )


def _finished(folder: Path, inputs: SpaceInputs) -> bool:
    export.check_replaceable(folder, SpaceRecord.FILE)
    record = SpaceRecord.load_if_current(folder)
    return record is not None and record.inputs == inputs and (folder / WEIGHTS).is_file()


def _write(
    folder: Path, root: Path, model: Model, split: EvalSplit, inputs: SpaceInputs, *, progress: Progress
) -> None:
    imgsz = inputs.export.imgsz
    files = export.convert(folder, model, split, ["onnx"], imgsz=imgsz, nms=True)
    files = {PYTORCH: model.weights, **files}
    torch = load_detector(model.weights, imgsz=imgsz, device="cpu")
    backends: dict[str, Predictor] = {PYTORCH: torch, "onnx": load_onnx_detector(files["onnx"], imgsz=imgsz)}
    models = verify(model, split, backends, files, imgsz=imgsz, progress=progress)
    files["onnx"].replace(folder / WEIGHTS)
    record = export.export_record(model, split, inputs.export, ["onnx"], models)
    card = model_card(card_contents(root, model, imgsz, record))
    (folder / "model-card.md").write_text(card, encoding="utf-8", newline="\n")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in inputs.requirements), encoding="utf-8")
    facts = model_facts(model, find_measurements(model))
    (folder / "README.md").write_text(_readme(model.folder.name, facts), encoding="utf-8", newline="\n")
    shutil.copy(TEMPLATES / "app.py.txt", folder / "app.py")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / ".gitattributes").write_text("*.onnx filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8")
    _copy_license(folder / "LICENSE")
    SpaceRecord(inputs=inputs, imgsz=imgsz, facts=facts).save(folder)


def _readme(name: str, facts: ModelFacts) -> str:
    return render(
        "space.md", head=_head(name), name=name, warning=facts.warning, facts=facts.facts, limits=facts.limits
    )


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
    """Copy the license's text, from the checkout or from the installed package."""
    installed = [one.locate() for one in metadata.files("facemask-train") or () if one.name == "LICENSE"]
    for path in (PACKAGE.parents[1] / "LICENSE", *map(Path, map(str, installed))):
        if path.is_file():
            shutil.copy(path, target)
            return
    raise DataError(f"{PACKAGE}: expected the LICENSE of fmask, found none", next_step="install facemask-train again")


def requirements() -> list[str]:
    """Return the packages that the page needs, at the installed versions."""
    return [f"{name}=={version(name)}" for name in NEEDS]


def version(name: str) -> str:
    """Return the installed version of a package.

    Raises:
        MissingError: it is not installed.
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise MissingError(
            f"a Space needs the package {name}, which is not installed",
            next_step="pip install 'facemask-train[demo,export]'",
        ) from error
