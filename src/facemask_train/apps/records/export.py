"""`export.json`: the files that `fmask export` wrote, and how far each is from PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from facemask_train.core.records import Record
from facemask_train.eval.records.audit import EnsembleReference

MAP_TOLERANCE = 0.002
"""The largest accepted difference of mAP 0.5:0.95 to PyTorch: 0.2 points."""

BOX_TOLERANCE = 0.1
"""The largest accepted distance of a corner to PyTorch's, in pixels at the network's input size."""

LOST_TOLERANCE = 0.002
"""The largest accepted share of PyTorch's boxes without a counterpart: suppression can tip over at a tie."""


@dataclass(frozen=True, slots=True)
class ExportInputs:
    """Everything that decides what an export contains, apart from its formats and the machine's speed.

    Attributes:
        version: of the record, so that an export of another version is made again.
        weights: sha256 of the checkpoint.
        ensemble, split: what the export was checked on.
        imgsz: input size in pixels.
        nms: whether the files include non-maximum suppression.
        evaluations: sha256 of each `metrics.json` of the run, by its folder's name.
        packages: versions of the packages that convert and run the model.
    """

    version: int
    weights: str
    ensemble: EnsembleReference
    split: str
    imgsz: int
    nms: bool
    evaluations: dict[str, str]
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a backend is from PyTorch on the same images.

    Attributes:
        map_difference: of mAP 0.5:0.95, signed.
        boxes: how many boxes were compared.
        box_error: the largest distance of a corner along an axis, in pixels at the network's input size.
        box_error_image: the same in pixels of the image.
        confidence_error: the largest difference of a confidence.
        lost: boxes without a counterpart.
    """

    map_difference: float
    boxes: int
    box_error: float
    box_error_image: float
    confidence_error: float
    lost: int

    @property
    def close(self) -> bool:
        """Whether the backend is close enough to count as the same model."""
        return (
            abs(self.map_difference) <= MAP_TOLERANCE
            and self.box_error <= BOX_TOLERANCE
            and self.lost <= LOST_TOLERANCE * self.boxes
        )


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds per image: the median, the 10th and the 90th percentile."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """One file. `file` is empty and `parity` None for PyTorch itself, the reference."""

    format: str
    file: str
    megabytes: float
    milliseconds: Latency
    map50_95: float
    parity: Parity | None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest accepted differences to PyTorch."""

    map50_95: float = MAP_TOLERANCE
    box: float = BOX_TOLERANCE
    lost: float = LOST_TOLERANCE


@dataclass(frozen=True, slots=True)
class Export(Record):
    """What an export contains and what it was checked on.

    Attributes:
        run: the run's name.
        formats: the formats that were written.
        models: a row for PyTorch and one for each format.
        images: images that the models were compared on.
        machine: what the latencies were measured on, in words.
    """

    FILE: ClassVar[str] = "export.json"
    VERSION: ClassVar[int] = 3
    MAKE: ClassVar[str] = "fmask export"

    inputs: ExportInputs
    run: str
    formats: tuple[str, ...]
    models: tuple[ExportedModel, ...]
    images: int
    machine: str
    tolerance: Tolerance = Tolerance()
