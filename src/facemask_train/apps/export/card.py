"""Collect what a model card says: the run, its ensemble and sources, its evaluations, and an export's files."""

from __future__ import annotations

from pathlib import Path

from facemask_train.apps.export.verify import table_rows
from facemask_train.apps.records.export import Export
from facemask_train.core.config import read_sources
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval.eval_target import Model
from facemask_train.eval.records.metrics import Metrics, read_evaluations
from facemask_train.report.model_card import CardContents
from facemask_train.sources.source_record import SourceRecord, read_source, source_folder


def card_contents(root: Path, model: Model, imgsz: int, export: Export | None = None) -> CardContents:
    """Return the contents of a model's card.

    Args:
        imgsz: input size in pixels.
        export: the files to list.
    """
    ensemble = _ensemble(root, model)
    return CardContents(
        run=model.run,
        digest=model.digest,
        imgsz=imgsz,
        ensemble=ensemble,
        sources=_sources(root, ensemble),
        evaluations=list(evaluations_of(model).values()),
        exports=[] if export is None else table_rows(export),
        machine="" if export is None else export.machine,
        split="" if export is None else checked_on(export),
    )


def checked_on(export: Export) -> str:
    """Return what an export was checked on, in words."""
    return f"{export.images:,} images of {export.inputs.ensemble.name}, {export.inputs.split}"


def evaluations_of(model: Model) -> dict[Path, Metrics]:
    """Return the evaluations of exactly these weights, by their folders."""
    found = read_evaluations(model.folder)
    return {folder: metrics for folder, metrics in found.items() if metrics.inputs.weights == model.digest}


def _ensemble(root: Path, model: Model) -> EnsembleCard | None:
    """Return the card of the ensemble that a model was trained on, if it has not changed since."""
    trained_on = model.run.ensemble
    if trained_on is None:
        return None
    card = EnsembleCard.load_if_current(root / trained_on.path)
    return card if card is not None and card.hash == trained_on.hash else None


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
