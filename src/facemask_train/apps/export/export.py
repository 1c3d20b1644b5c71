"""`fmask export`: write a model as ONNX and OpenVINO, each verified against PyTorch, with a model card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.apps.export.card import card_contents, evaluations_of
from facemask_train.apps.export.verify import PYTORCH, machine, verify
from facemask_train.apps.records.export import Export, ExportedModel, ExportInputs
from facemask_train.core.errors import MissingError, UsageError, nearest
from facemask_train.core.files import digest_file, read_json, replacing, stage
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.versions import read_ensemble
from facemask_train.eval.eval_target import (
    EvalSplit,
    Model,
    find_eval_ensemble,
    find_model,
    open_eval_split,
    warn_if_rebuilt,
)
from facemask_train.eval.records.audit import EnsembleReference
from facemask_train.eval.records.metrics import Metrics
from facemask_train.eval.thresholds import stored_threshold
from facemask_train.model.backends import OPERATING_POINT
from facemask_train.model.detector import load_detector
from facemask_train.model.export import to_onnx, to_openvino
from facemask_train.model.onnx_detector import STRIDE
from facemask_train.report.model_card import model_card

CARD = "README.md"
FORMATS = ("onnx", "openvino")
SPACE = "space"
_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export: its folder, and its `export.json`."""

    folder: Path
    record: Export
    up_to_date: bool


def export(
    root: Path,
    *,
    run: str | None = None,
    weights: Path | None = None,
    formats: Sequence[str] = FORMATS,
    target: Path | None = None,
    nms: bool = True,
    imgsz: int | None = None,
    data: str | None = None,
    split: str | None = None,
    progress: Progress = no_progress,
) -> ExportResult:
    """Write a model in other formats into `runs/NAME/export/` or `target`. An equal export is not repeated.

    Formats that the folder already has, from equal inputs, are written again together with the new ones, so that the
    table compares all of them in one measurement.

    Args:
        run, weights, data: as in `evaluate`.
        formats: of `FORMATS`.
        nms: include non-maximum suppression in the files.
        imgsz: input size in pixels, rounded up to a multiple of 32; the run's if it is None.
        split: what the files are checked on; test if it is None, or val if test has no faces.

    Raises:
        MissingError, UsageError: as in `evaluate`; or `target` contains something else.
        DataError: the checkpoint cannot be used, or an export differs from PyTorch.
    """
    model = find_model(root, run, weights)
    checked = find_check_split(root, model, data, split)
    warn_if_rebuilt(model, checked)
    folder = (target if target is not None else model.folder / "export").resolve()
    with stage(folder):
        inputs = export_inputs(model, checked, round_up(model.imgsz(imgsz)), nms=nms)
        known = _earlier(folder)
        there = known.formats if known is not None and known.inputs == inputs else ()
        if known is not None and set(formats) <= set(there) and _complete(folder, known):
            _log.info("%s: up to date", folder)
            return ExportResult(folder, known, up_to_date=True)
        wanted = [name for name in FORMATS if name in {*formats, *there}]
        with replacing(folder) as partial:
            record = _write(partial, root, model, checked, inputs, formats=wanted, progress=progress)
    return ExportResult(folder, record, up_to_date=False)


# ---- options and inputs ----


def parse_formats(formats: Sequence[str], target: Path | None, nms: str) -> tuple[list[str], bool]:
    """Return the formats to write, of `FORMATS`, and whether to write a Space.

    Raises:
        UsageError: an unknown format or value of `--nms`, or one folder for both models and a Space.
    """
    for name in formats:
        if name not in (*FORMATS, SPACE):
            known = (*FORMATS, SPACE)
            raise UsageError(
                f"--format {name}: expected one of {', '.join(known)}{nearest(name, known)}", next_step="--format onnx"
            )
    if nms not in ("inside", "outside"):
        raise UsageError(f"--nms {nms}: expected inside or outside", next_step="--nms inside")
    models = [name for name in FORMATS if name in formats]
    if models and SPACE in formats and target is not None:
        raise UsageError(
            f"{target}: one folder cannot contain both models and a Space",
            next_step="leave the folder out, or run the command once for each",
        )
    return models, SPACE in formats


def find_check_split(root: Path, model: Model, data: str | None, split: str | None) -> EvalSplit:
    """Return the split that an export is checked on: the requested one, else test, else val if test has no faces."""
    folder = find_eval_ensemble(root, model, data)
    if split is not None:
        return open_eval_split(folder, split)
    card = read_ensemble(folder)
    return open_eval_split(folder, "test" if sum(card.faces.get("test", {}).values()) else "val")


def export_inputs(model: Model, split: EvalSplit, imgsz: int, *, nms: bool) -> ExportInputs:
    """Return everything that decides what an export contains, apart from its formats and the machine's speed."""
    return ExportInputs(
        version=Export.VERSION,
        weights=model.digest,
        ensemble=EnsembleReference(split.card.name, split.card.hash),
        split=split.split,
        imgsz=imgsz,
        nms=nms,
        evaluations={folder.name: digest_file(folder / Metrics.FILE) for folder in evaluations_of(model)},
        packages=_packages(),
    )


def _packages() -> dict[str, str]:
    """Return the versions of the packages that convert and run the model.

    Raises:
        MissingError: one of them is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {name: version(name) for name in _PACKAGES}
    except PackageNotFoundError as error:
        raise MissingError(
            f"exporting needs the package {error.name}, which is not installed",
            next_step="pip install 'facemask-train[export]'",
        ) from error


def _earlier(folder: Path) -> Export | None:
    """Return the record of an earlier export into this folder; None if there is none, or of another version."""
    check_replaceable(folder, Export.FILE)
    return Export.load_if_current(folder)


def check_replaceable(folder: Path, marker: str) -> None:
    """Make sure that a folder is new, empty, or an earlier export.

    Raises:
        UsageError: it contains something else, is a file, or is the current folder.
    """
    if folder == Path.cwd():
        raise UsageError(f"{folder}: the current folder cannot be replaced", next_step="choose another folder")
    known = read_json(folder / marker) if folder.is_dir() else None
    if known is not None and "inputs" in known:
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder}: expected a new or empty folder, or an earlier export; found other files and no {marker} of "
            "fmask",
            next_step="choose another folder",
        )


def round_up(imgsz: int) -> int:
    """Return the input size that the network supports: the next multiple of its stride."""
    return -(-imgsz // STRIDE) * STRIDE


def _complete(folder: Path, known: Export) -> bool:
    return all((folder / name).exists() for name in (CARD, *(one.file for one in known.models if one.file)))


# ---- output ----


def _write(
    folder: Path,
    root: Path,
    model: Model,
    split: EvalSplit,
    inputs: ExportInputs,
    *,
    formats: Sequence[str],
    progress: Progress,
) -> Export:
    """Write the models, verify them, write the card, and `export.json` last."""
    files = convert(folder, model, split, formats, imgsz=inputs.imgsz, nms=inputs.nms)
    files = {PYTORCH: model.weights, **files}
    backends = {name: load_detector(path, imgsz=inputs.imgsz, device="cpu") for name, path in files.items()}
    models = verify(model, split, backends, files, imgsz=inputs.imgsz, progress=progress)
    record = export_record(model, split, inputs, formats, models)
    card = model_card(card_contents(root, model, inputs.imgsz, record))
    (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
    record.save(folder)
    return record


def export_record(
    model: Model, split: EvalSplit, inputs: ExportInputs, formats: Sequence[str], models: Sequence[ExportedModel]
) -> Export:
    """Return the content of `export.json`."""
    return Export(
        inputs=inputs,
        run=model.folder.name,
        formats=tuple(formats),
        models=tuple(models),
        images=split.images,
        machine=machine(),
    )


def convert(
    folder: Path, model: Model, split: EvalSplit, formats: Sequence[str], *, imgsz: int, nms: bool
) -> dict[str, Path]:
    """Write a model in other formats into a folder, and return the path of each."""
    name = model.folder.name
    metadata = {
        "run": name,
        "weights": model.digest,
        "checked_on": f"{split.card.name} {split.card.hash} {split.split}",
    }
    point = stored_threshold(model, imgsz)
    if point.chosen == "val":
        metadata[OPERATING_POINT] = str(point.value)
    onnx = folder / f"{name}.onnx"
    to_onnx(model.weights, onnx, imgsz=imgsz, nms=nms, metadata=metadata)
    files = {"onnx": onnx}
    if "openvino" in formats:
        files["openvino"] = folder / f"{name}_openvino_model"
        to_openvino(onnx, files["openvino"])
    if "onnx" not in formats:
        files.pop("onnx").unlink()
    return files
