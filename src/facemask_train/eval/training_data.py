"""What a model was trained on, as far as its run's ensemble is still there: face-aware edits, and faces by size."""

from __future__ import annotations

from facemask_train.core.boxes import CellCounts, count_cells
from facemask_train.core.errors import DataError, MissingError
from facemask_train.dataset.contents import read_images
from facemask_train.dataset.versions import find_ensemble, read_ensemble
from facemask_train.eval.eval_target import EvalSplit, Model


def training_ensemble(model: Model, target: EvalSplit) -> EvalSplit | None:
    """Return the training split of the ensemble that a model was trained on; None if it is not there as it was."""
    trained_on = model.run.ensemble
    if trained_on is None:
        return None
    if trained_on.hash == target.card.hash:
        return EvalSplit(target.folder, target.card, "train")
    root = model.folder.parents[1]
    try:
        folder = find_ensemble(root, str(root / trained_on.path))
        card = read_ensemble(folder)
    except (MissingError, DataError):
        return None
    return EvalSplit(folder, card, "train") if card.hash == trained_on.hash else None


def training_edits(model: Model, target: EvalSplit) -> tuple[str, ...] | None:
    """Return the face-aware edits that the ensemble of a model's run drew into training images; None if unknown."""
    ensemble = training_ensemble(model, target)
    if ensemble is None:
        return None
    return tuple(sorted(kind for kind, outcomes in ensemble.card.face_edits.items() if outcomes.get("done")))


def training_faces(model: Model, target: EvalSplit) -> CellCounts | None:
    """Return the faces of a model's training images by class and relative size; None if unknown.

    Augmented copies are left out: they show the same faces again.
    """
    ensemble = training_ensemble(model, target)
    if ensemble is None:
        return None
    originals = (one for one in read_images(ensemble.folder) if one.split == "train" and not one.copy)
    return count_cells((label, one.width, one.height) for one in originals for label in one.labels)
