"""From the outcomes of an audit to rates: how many faces are flipped or lost, beyond what the controls do.

A face fails a perturbation if it is flipped or lost, and it fails several if it fails at least one of them: a shortcut
shows on the perturbation that it is about, and must not be diluted by the others. The control of a perturbation is the
same change beside the face; where there is no room for it, and for a distance, it is the mean of the face's other
controls. Over several perturbations it is the worst of their controls, which are as many. The excess is the share of
faces that fail less that of the controls, over the same faces. Scene groups are resampled as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from facemask_train.eval.measures.bootstrap import Interval, bootstrap_weights, clustered_proportion
from facemask_train.eval.perturbations.controls import BESIDE
from facemask_train.eval.perturbations.perturb import PERTURBATIONS
from facemask_train.eval.perturbations.shortcuts import RESULTS, Face, Outcome

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MEASURABLE_FACES, MEASURABLE_GROUPS = 20, 10
"""With fewer faces, or faces in fewer scene groups, a rate is not measurable."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n` trials on `faces` faces in `groups` scene groups; None if there are too few to measure it."""

    value: float | None
    interval: Interval | None
    n: int
    faces: int
    groups: int

    @property
    def measurable(self) -> bool:
        return self.value is not None


@dataclass(frozen=True, slots=True)
class ExcessRate:
    """How many faces fail perturbations, how many their controls, and the excess of the first over the second.

    All are None if there are too few faces to measure them.

    Attributes:
        rate: the share of the faces that were flipped or lost by at least one of the perturbations. Where the class
            must change: the share that was flipped, without a control.
        control: the same share for the controls.
        n: the number of trials: perturbations times faces, where they apply. `same`, `flipped` and `lost` count them.
    """

    rate: float | None
    interval: Interval | None
    control: float | None
    control_interval: Interval | None
    excess: float | None
    excess_interval: Interval | None
    n: int
    faces: int
    groups: int
    same: int
    flipped: int
    lost: int

    @property
    def measurable(self) -> bool:
        return self.rate is not None

    def beyond_chance(self, looks: int) -> bool:
        """Return whether the excess is above 0, with a margin for having looked at so many rates (Bonferroni)."""
        if self.excess is None or self.excess_interval is None:
            return False
        normal = NormalDist()
        wider = normal.inv_cdf(1 - 0.025 / max(looks, 1)) / normal.inv_cdf(0.975)
        return self.excess - wider * (self.excess - self.excess_interval[0]) > 0


ControlRates = Mapping[tuple[str, str, int], float]
"""The failure rate of controls: by perturbation (empty for the face's other controls), image and number of the face."""


def control_rates(outcomes: Iterable[Outcome]) -> ControlRates:
    """Return the failure rates of all controls."""
    found: dict[tuple[str, str, int], list[bool]] = {}
    for one in outcomes:
        if one.control:
            perturbation = one.perturbation if one.control == BESIDE else ""
            found.setdefault((perturbation, one.face.image, one.face.number), []).append(one.result != "same")
    return {key: fmean(failed) for key, failed in found.items()}


def excess_rate(outcomes: Sequence[Outcome], controls: ControlRates) -> ExcessRate:
    """Return the share of faces that fail at least one trial, that of their controls, and the excess.

    Args:
        outcomes: of perturbations, not of controls.
    """
    by_group = failures_by_group(outcomes, controls)
    failed, failed_controls, trials = _columns(by_group)
    faces, groups = int(trials.sum()), len(by_group)
    counts = [sum(one.result == result for one in outcomes) for result in RESULTS]
    if faces < MEASURABLE_FACES or groups < MEASURABLE_GROUPS:
        return ExcessRate(*(None,) * 6, len(outcomes), faces, groups, *counts)
    weights = bootstrap_weights(groups)
    own, control = (clustered_proportion(part, trials, weights) for part in (failed, failed_controls))
    assert own.value is not None
    assert own.interval is not None
    assert control.value is not None
    assert control.interval is not None
    correlation = _correlation(failed, failed_controls, trials, weights)
    excess = own.value - control.value
    interval = _difference(own.value, own.interval, control.value, control.interval, correlation)
    shares = (own.value, own.interval, control.value, control.interval, excess, interval)
    return ExcessRate(*shares, len(outcomes), faces, groups, *counts)


def flip_rate(outcomes: Sequence[Outcome]) -> ExcessRate:
    """Return how often a perturbation changes the class that must change it."""
    found = share([one.face for one in outcomes], [one.result == "flipped" for one in outcomes])
    counts = [sum(one.result == result for one in outcomes) for result in RESULTS]
    return ExcessRate(found.value, found.interval, *(None,) * 4, found.n, found.faces, found.groups, *counts)


@dataclass(frozen=True, slots=True)
class Failures:
    """How many of the `faces` of a scene group fail, and how many of their controls (which may count in part)."""

    failed: float = 0.0
    controls: float = 0.0
    faces: int = 0


def failures_by_group(outcomes: Iterable[Outcome], controls: ControlRates) -> dict[str, Failures]:
    """Return the failures of each scene group, over perturbations, not controls."""
    worst: dict[tuple[str, str, int], tuple[float, float]] = {}
    for one in outcomes:
        face = (one.face.cluster, one.face.image, one.face.number)
        failed, control = worst.get(face, (0.0, 0.0))
        worst[face] = max(failed, float(one.result != "same")), max(control, control_of(one, controls))
    found: dict[str, Failures] = {}
    for (group, *_), (failed, control) in worst.items():
        known = found.get(group, Failures())
        found[group] = Failures(known.failed + failed, known.controls + control, known.faces + 1)
    return found


def _columns(by_group: Mapping[str, Failures]) -> tuple[Array, Array, Array]:
    """Return failed faces, failed controls and faces of each scene group, (groups,) each."""
    import numpy as np

    rows = [(one.failed, one.controls, one.faces) for _, one in sorted(by_group.items())]
    failed, controls, faces = np.array(rows, float).reshape(-1, 3).T
    return failed, controls, faces


def control_of(outcome: Outcome, controls: ControlRates) -> float:
    """Return the failure rate of a trial's control: the change beside the face, or the face's other controls."""
    face = (outcome.face.image, outcome.face.number)
    return controls.get((outcome.perturbation, *face), controls.get(("", *face), 0.0))


def _correlation(failed: Array, failed_controls: Array, trials: Array, weights: Array) -> float:
    """Return how a rate and that of its controls vary together over resamples, 0 to 0.95."""
    import numpy as np

    total = np.maximum(trials @ weights, 1e-9)
    own, control = (failed @ weights) / total, (failed_controls @ weights) / total
    if min(own.std(), control.std()) < 1e-9:
        return 0.0
    return float(np.clip(np.corrcoef(own, control)[0, 1], 0, 0.95))


def _difference(one: float, interval: Interval, other: float, other_interval: Interval, correlation: float) -> Interval:
    """Return the interval of the difference of two correlated rates from their own (Newcombe's method 10).

    So it has a width even if neither rate varied.
    """

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))

    low = reach(one - interval[0], other_interval[1] - other)
    high = reach(interval[1] - one, other - other_interval[0])
    return max(-1.0, one - other - low), min(1.0, one - other + high)


def perturbed(outcomes: Iterable[Outcome], names: Collection[str], name: str = "") -> list[Outcome]:
    """Return the outcomes of some perturbations, without controls, on the faces of a class, or of any if empty."""
    return [
        one for one in outcomes if not one.control and one.perturbation in names and name in ("", one.face.label.name)
    ]


def counted(seen: Collection[str], *, shown: bool = False) -> tuple[str, ...]:
    """Return the perturbations that count in the headline: those that training never showed, or else the others.

    Args:
        seen: the perturbations that training showed.
        shown: return those that would count if training had not shown them.
    """
    return tuple(one.name for one in PERTURBATIONS if one.counts and (one.name in seen) == shown)


def response_rate(outcomes: Iterable[Outcome]) -> Share:
    """Return how often the class changes where it must."""
    names = {one.name for one in PERTURBATIONS if one.must_change}
    own = perturbed(outcomes, names)
    return share([one.face for one in own], [one.result == "flipped" for one in own])


def share(faces: Sequence[Face], hits: Sequence[bool]) -> Share:
    """Return a share of trials with its interval: one face and one hit for each."""
    import numpy as np

    clusters = sorted({face.cluster for face in faces})
    position = {cluster: index for index, cluster in enumerate(clusters)}
    index = np.array([position[face.cluster] for face in faces], np.int64)
    distinct = len({(face.image, face.number) for face in faces})
    if distinct < MEASURABLE_FACES or len(clusters) < MEASURABLE_GROUPS:
        return Share(None, None, len(faces), distinct, len(clusters))
    trials = np.bincount(index, minlength=len(clusters))
    hit = np.bincount(index, np.array(hits, float), minlength=len(clusters))
    found = clustered_proportion(hit, trials, bootstrap_weights(len(clusters)))
    return Share(found.value, found.interval, len(faces), distinct, len(clusters))


def found_share(large: Sequence[Face], right: Collection[Face], name: str) -> Share:
    """Return the share of the large faces of a class that the model classifies correctly when unchanged."""
    own = [face for face in large if face.label.name == name]
    named = set(right)
    return share(own, [face in named for face in own])
