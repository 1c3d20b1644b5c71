"""`compare.json`: how runs differ that were scored on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from facemask_train.core.records import Record
from facemask_train.eval.measures.bootstrap import Interval
from facemask_train.eval.measures.paired_bootstrap import Difference
from facemask_train.eval.perturbations.rates import ExcessRate


@dataclass(frozen=True, slots=True)
class RunScores:
    """One run; precision, recall and F1 are at its own operating point. `bare` is the headline of its audit."""

    run: str
    threshold: float
    map50: float
    map50_95: float
    precision: float
    recall: float
    f1: float
    bare: ExcessRate | None


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The differences of two runs, second minus first. The intervals of all pairs and metrics hold together.

    `detectable` is how large a difference of each metric has to be to be found on such a test set 4 times in 5.

    `bare` is that of the audits' excess on bare faces, over the perturbations that neither run's training showed; None
    if it was not measured for both.
    """

    first: str
    second: str
    metrics: Mapping[str, Difference]
    detectable: Mapping[str, float]
    bare: Difference | None
    verdict: str


@dataclass(frozen=True, slots=True)
class RecipeComparison(Difference):
    """The difference of two recipes over the seeds of each, with the names of their runs."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    verdict: str


@dataclass(frozen=True, slots=True)
class ComparisonInputs:
    """Everything that determines a comparison's result; `evaluations` are digests of the runs' metrics."""

    metric: str
    evaluations: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """The result of a comparison: the first run against each of the others.

    Attributes:
        difference, interval, verdict: of `metric`, for the two recipes if there are enough seeds, else the last pair.
        recipes: None unless the runs are of two recipes with enough seeds each.
        disagreements: the number of faces that only one of the first and the last run gets right.
    """

    FILE: ClassVar[str] = "compare.json"
    VERSION: ClassVar[int] = 3
    MAKE: ClassVar[str] = "fmask compare"

    runs: tuple[RunScores, ...]
    ensemble: str
    split: str
    images: int
    scenes: int
    too_few: bool
    metric: str
    difference: float
    interval: Interval
    verdict: str
    pairs: tuple[PairedComparison, ...]
    recipes: RecipeComparison | None
    disagreements: int
    inputs: ComparisonInputs
