"""`space.json`: the model of a Space, and the facts that its page shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from facemask_train.apps.model_facts import ModelFacts
from facemask_train.apps.records.export import ExportInputs
from facemask_train.core.records import Record
from facemask_train.training.runs import CodeVersion

WEIGHTS = "model.onnx"


@dataclass(frozen=True, slots=True)
class SpaceInputs:
    """Everything that decides what a Space contains.

    Attributes:
        code: the version of fmask.
        requirements: pinned packages.
        measurements: digest of the evaluation and the audit that the page quotes.
    """

    export: ExportInputs
    code: CodeVersion
    requirements: tuple[str, ...]
    measurements: str


@dataclass(frozen=True, slots=True)
class SpaceRecord(Record):
    """A Space's model: its input size in pixels, and the facts about it."""

    FILE: ClassVar[str] = "space.json"
    VERSION: ClassVar[int] = 2
    MAKE: ClassVar[str] = "fmask export --format space"

    inputs: SpaceInputs
    imgsz: int
    facts: ModelFacts
