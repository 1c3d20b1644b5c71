"""`fmask export`: a model as ONNX and OpenVINO, each checked against PyTorch on real images, with a model card."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facemask_train.apps.export import parity
from facemask_train.apps.export.parity import Answers, Parity
from facemask_train.apps.resolve_model import EXPORT_MARKER as MARKER
from facemask_train.core.config import read_sources
from facemask_train.core.errors import DataError, MissingError, UsageError, nearest
from facemask_train.core.files import digest_file, locked, read_json, recover, replacing, write_json
from facemask_train.core.parallel import usable_cores
from facemask_train.core.records import VersionError
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.versions import read_ensemble
from facemask_train.eval.audit import split_labels
from facemask_train.eval.eval_target import (
    EvalSplit,
    Model,
    find_eval_ensemble,
    find_model,
    open_eval_split,
    warn_if_rebuilt,
)
from facemask_train.eval.records.metrics import Metrics, read_evaluations
from facemask_train.eval.thresholds import stored_threshold
from facemask_train.model.backends import OPERATING_POINT
from facemask_train.model.detector import load_detector
from facemask_train.model.export import to_onnx, to_openvino
from facemask_train.model.onnx_detector import STRIDE
from facemask_train.model.validation import Predictor
from facemask_train.report.model_card import CardContents, model_card
from facemask_train.sources.source_record import SourceRecord, read_source, source_folder

EXPORT_VERSION = 2
"""Raised by hand when what an export holds changes, so that earlier ones are made anew."""

CARD = "README.md"
FORMATS = ("onnx", "openvino")
SPACE = "space"
PYTORCH = "pytorch"
HEADER = ("file", "MB", "ms an image", "10th to 90th", "mAP 0.5:0.95", "box error, px")
_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """A finished export: its folder, and what its `export.json` says."""

    folder: Path
    found: Mapping[str, Any]
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
) -> Export:
    """Write a model in other formats, into `runs/NAME/export/` or `target`; an equal export is not repeated.

    Formats that lie there already, made of the same, are made again with those that are asked for: the folder's table
    is of one measurement.

    Args:
        run, weights, data: as in `evaluate`.
        formats: of `FORMATS`.
        nms: leave only what survives non-maximum suppression, inside the file.
        imgsz: image size in pixels, rounded up to a multiple of 32; without it, the run's.
        split: what it is checked on; without it test, or val where test has no faces.

    Raises:
        MissingError, UsageError: as in `evaluate`; or `target` holds something else.
        DataError: a checkpoint that cannot be used, or an export that does not answer as PyTorch does.
    """
    model = find_model(root, run, weights)
    exam = find_checked(root, model, data, split)
    warn_if_rebuilt(model, exam)
    folder = (target if target is not None else model.folder / "export").resolve()
    with locked(folder):
        recover(folder)
        inputs = inputs_of(model, exam, rounded_up(model.imgsz(imgsz)), nms=nms)
        known = earlier(folder, MARKER)
        there = known["formats"] if known is not None and known["inputs"] == inputs else []
        if known is not None and set(formats) <= set(there) and _whole(folder, known):
            _log.info("%s: up to date", folder)
            return Export(folder, known, up_to_date=True)
        wanted = [name for name in FORMATS if name in {*formats, *there}]
        with replacing(folder) as partial:
            found = _write(partial, root, model, exam, inputs, formats=wanted, progress=progress)
    return Export(folder, found, up_to_date=False)


def asked_for(formats: Sequence[str], target: Path | None, nms: str) -> tuple[list[str], bool]:
    """Return which of `FORMATS` are asked for, and if a Space is.

    Raises:
        UsageError: there is no such format or place for suppression, or one folder is to hold models and a Space.
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
            f"{target}: one folder cannot hold both models and a Space", next_step="leave the folder out, or ask twice"
        )
    return models, SPACE in formats


def find_checked(root: Path, model: Model, data: str | None, split: str | None) -> EvalSplit:
    """Return what an export is checked on: the split that is asked for, else test, else val where test has no face."""
    folder = find_eval_ensemble(root, model, data)
    if split is not None:
        return open_eval_split(folder, split)
    card = read_ensemble(folder)
    return open_eval_split(folder, "test" if card.faces_in("test") else "val")


def inputs_of(model: Model, exam: EvalSplit, imgsz: int, *, nms: bool) -> dict[str, Any]:
    """Return all that decides what an export holds, but for its formats and the machine's speed."""
    evaluations = {folder.name: digest_file(folder / Metrics.FILE) for folder in evaluations_of(model)}
    return {
        "version": EXPORT_VERSION,
        "weights": model.digest,
        "ensemble": {"name": exam.card.name, "hash": exam.card.hash},
        "split": exam.split,
        "imgsz": imgsz,
        "nms": nms,
        "evaluations": evaluations,
        "packages": _packages(),
    }


def evaluations_of(model: Model) -> dict[Path, Metrics]:
    """Return the evaluations of exactly these weights, by their folders."""
    found = read_evaluations(model.folder)
    return {folder: metrics for folder, metrics in found.items() if metrics.inputs.weights == model.digest}


def _packages() -> dict[str, str]:
    """Return the versions of what converts and runs the model.

    Raises:
        MissingError: one of them is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {name: version(name) for name in _PACKAGES}
    except PackageNotFoundError as error:
        raise MissingError(
            f"exporting takes the package {error.name}, which is not installed",
            next_step="pip install 'facemask-train[export]'",
        ) from error


def earlier(folder: Path, marker: str) -> dict[str, Any] | None:
    """Return what an earlier export into this folder says; a folder that holds anything else is not to be replaced.

    Raises:
        UsageError: it holds something else, is a file, or is where the command was started.
    """
    if folder == Path.cwd():
        raise UsageError(f"{folder}: cannot replace the folder that you are in", next_step="name another folder")
    known = read_json(folder / marker) if folder.is_dir() else None
    if known is not None and "inputs" in known:
        return known
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder}: expected a new or empty folder, or an earlier export; found something else, and no {marker} of "
            "fmask",
            next_step="name another folder",
        )
    return None


def rounded_up(imgsz: int) -> int:
    """Return the image size that a network can take: the next multiple of its stride."""
    return -(-imgsz // STRIDE) * STRIDE


def _whole(folder: Path, known: Mapping[str, Any]) -> bool:
    return all((folder / name).exists() for name in (CARD, *(one["file"] for one in known["models"] if one["file"])))


# ---- what it makes ----


def _write(
    folder: Path,
    root: Path,
    model: Model,
    exam: EvalSplit,
    inputs: Mapping[str, Any],
    *,
    formats: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """Write the models, check them, and write the card and `export.json`, that last."""
    files = convert(folder, model, exam, formats, imgsz=inputs["imgsz"], nms=inputs["nms"])
    files = {PYTORCH: model.weights, **files}
    backends = {name: load_detector(path, imgsz=inputs["imgsz"], device="cpu") for name, path in files.items()}
    models = check(model, exam, backends, files, imgsz=inputs["imgsz"], progress=progress)
    found = told(model, exam, inputs, formats, models)
    card = model_card(card_contents(root, model, inputs["imgsz"], found))
    (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
    write_json(folder / MARKER, found)
    return found


def told(
    model: Model,
    exam: EvalSplit,
    inputs: Mapping[str, Any],
    formats: Sequence[str],
    models: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what `export.json` says."""
    return {
        "run": model.folder.name,
        "formats": list(formats),
        "models": list(models),
        "images": exam.images,
        "machine": machine(),
        "tolerance": {"map50_95": parity.MAP_TOLERANCE, "box": parity.BOX_TOLERANCE, "lost": parity.LOST_TOLERANCE},
        "inputs": dict(inputs),
    }


def convert(
    folder: Path, model: Model, exam: EvalSplit, formats: Sequence[str], *, imgsz: int, nms: bool
) -> dict[str, Path]:
    """Write a model in other formats into a folder, and return where each is."""
    name = model.folder.name
    about = {
        "run": name,
        "weights": model.digest,
        "checked_on": f"{exam.card.name} {exam.card.hash} {exam.split}",
    }
    point = stored_threshold(model, imgsz)
    if point.chosen == "val":
        about[OPERATING_POINT] = str(point.value)
    onnx = folder / f"{name}.onnx"
    to_onnx(model.weights, onnx, imgsz=imgsz, nms=nms, metadata=about)
    files = {"onnx": onnx}
    if "openvino" in formats:
        files["openvino"] = folder / f"{name}_openvino_model"
        to_openvino(onnx, files["openvino"])
    if "onnx" not in formats:
        files.pop("onnx").unlink()
    return files


def check(
    model: Model,
    exam: EvalSplit,
    backends: Mapping[str, Predictor],
    files: Mapping[str, Path],
    *,
    imgsz: int,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Ask a model in several backends, PyTorch among them, about the same images; return a row for each.

    Args:
        files: where each backend's file is.

    Raises:
        DataError: a backend does not answer as PyTorch does.
    """
    answers = parity.ask(backends, exam.folder, split_labels(exam), progress=progress)
    reference = answers[PYTORCH].images
    rows = []
    for name, said in answers.items():
        apart = parity.compare(reference, said.images, imgsz=imgsz)
        if not apart.close:
            raise _refused(name, model, exam, apart)
        rows.append(_row(name, files[name], said, None if name == PYTORCH else apart))
    return rows


def _refused(name: str, model: Model, exam: EvalSplit, apart: Parity) -> DataError:
    return DataError(
        f"{model.folder.name} as {name} does not answer as PyTorch does, on {exam.card.name}, {exam.split}: "
        f"mAP 0.5:0.95 is {100 * apart.map_difference:+.2f} points apart (allowed {100 * parity.MAP_TOLERANCE:.1f}), a "
        f"corner {apart.box_error:.2f} px (allowed {parity.BOX_TOLERANCE:g}), and {apart.lost} of {apart.boxes} boxes "
        "are gone; nothing was written",
        next_step="report it with these numbers, or leave this format out (--format)",
    )


def _row(name: str, path: Path, said: Answers, apart: Parity | None) -> dict[str, Any]:
    middle, low, high = parity.spread(said.seconds)
    return {
        "format": name,
        "file": "" if apart is None else path.name,
        "megabytes": round(size(path) / 1e6, 2),
        "milliseconds": {"median": round(middle, 2), "p10": round(low, 2), "p90": round(high, 2)},
        "map50_95": round(parity.map50_95(said.images), 6),
        "parity": None if apart is None else {key: _rounded(value) for key, value in asdict(apart).items()},
    }


def _rounded(value: float) -> float:
    return round(value, 6)


def size(path: Path) -> int:
    """Return how many bytes a file, or a folder of files, has."""
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*"))


def machine() -> str:
    """Return what a time was measured on, in words."""
    return f"{_processor()}, {usable_cores()} cores, {platform.system()}"


def _processor() -> str:
    """Return the processor's name, as Linux has it; elsewhere its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# ---- the model card ----


def card_contents(root: Path, model: Model, imgsz: int, found: Mapping[str, Any] | None = None) -> CardContents:
    """Return what the model card says: the run, ensemble, sources, evaluations and exports of a model."""
    ensemble = _trained_on(root, model)
    evaluations = list(evaluations_of(model).values())
    about = {} if found is None else _measured(found)
    return CardContents(model.run, model.digest, imgsz, ensemble, _sources(root, ensemble), evaluations, **about)


def _measured(found: Mapping[str, Any]) -> dict[str, Any]:
    inputs = found["inputs"]
    exam = f"{found['images']} images of {inputs['ensemble']['name']}, {inputs['split']}"
    return {"exports": rows(found), "machine": found["machine"], "split": exam}


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return an export's table: file, MB, ms an image with its spread, mAP, and the largest box error."""
    return [
        (
            one["file"] or "best.pt (PyTorch)", f"{one['megabytes']:.1f}", f"{one['milliseconds']['median']:.1f}",
            f"{one['milliseconds']['p10']:.1f} to {one['milliseconds']['p90']:.1f}", f"{100 * one['map50_95']:.2f}",
            "-" if one["parity"] is None else f"{one['parity']['box_error']:.4f}",
        )
        for one in found["models"]
    ]  # fmt: skip


def _trained_on(root: Path, model: Model) -> EnsembleCard | None:
    """Return the card of the ensemble that a model was trained on, where it is still the same."""
    trained_on = model.run.ensemble
    if trained_on is None:
        return None
    try:
        card = EnsembleCard.load(root / trained_on.path)
    except (MissingError, VersionError):
        return None
    return card if card.hash == trained_on.hash else None


def _sources(root: Path, ensemble: EnsembleCard | None) -> dict[str, dict[str, str]]:
    """Return handle and license of each source of an ensemble: as fetched, else as configured."""
    configured = read_sources(root)
    found = {}
    for name in ensemble.sources if ensemble else ():
        fetched = read_source(root, name) if (source_folder(root, name) / SourceRecord.FILE).is_file() else None
        known = [one for one in (fetched, configured.get(name)) if one is not None]
        handle = next((one.handle for one in known if one.handle), "")
        found[name] = {"handle": handle, "license": next((one.license for one in known if one.license), "")}
    return found
