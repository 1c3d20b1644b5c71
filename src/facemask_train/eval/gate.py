"""`--fail-unless "map50>=0.9"`: a condition that the whole confidence interval has to meet, not only the estimate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from facemask_train.core.errors import GateError, UsageError, nearest
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.bootstrap import UNDEFINED, Estimate
from facemask_train.eval.measures.metrics import METRICS
from facemask_train.eval.records.audit import Audit
from facemask_train.eval.records.metrics import Metrics

Values = Mapping[str, Estimate]
"""What a condition can be about, by name: numbers from 0 to 1, differences from -1 to 1."""

_CONDITION = re.compile(r"\s*([a-z0-9_.]+)\s*(>=|<=)\s*(-?[0-9.]+)\s*")

AUDIT_RATES = ("bare_excess", "bare_found", "response")
EVALUATION_NAMES = (*METRICS, *(f"{name}.{key}" for name in CLASSES for key in METRICS), *AUDIT_RATES)
"""The names in a condition of `fmask evaluate`: the means over the classes, then each class, then the audit."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: the whole interval of `name` is at least (or at most) `bound`."""

    text: str
    name: str
    at_least: bool
    bound: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether a condition holds, and why."""

    condition: str
    holds: bool
    why: str


def read_gates(texts: Iterable[str], known: Sequence[str]) -> list[Gate]:
    """Parse conditions such as `map50>=0.9`.

    Raises:
        UsageError: a condition has another form, or names something that is not measured.
    """
    gates = []
    for text in texts:
        found = _CONDITION.fullmatch(text)
        if found is None or found[3].count(".") > 1:
            raise UsageError(
                f"--fail-unless {text!r}: expected NAME>=NUMBER or NAME<=NUMBER, with a number from 0 to 1",
                next_step=f'for example --fail-unless "{known[0]}>=0.9"',
            )
        if found[1] not in known:
            raise UsageError(
                f"--fail-unless {text!r}: there is no number named '{found[1]}'{nearest(found[1], known)}",
                next_step=f"one of: {', '.join(known)}",
            )
        gates.append(Gate(text.strip(), found[1], found[2] == ">=", float(found[3])))
    return gates


def check_gates(gates: Sequence[Gate], values: Values) -> list[GateResult]:
    """Check each condition. A number that could not be measured fails its condition."""
    return [_check(gate, values.get(gate.name, UNDEFINED)) for gate in gates]


def _check(gate: Gate, estimate: Estimate) -> GateResult:
    if estimate.value is None or estimate.interval is None:
        return GateResult(gate.text, False, f"{gate.name} is not measurable here")
    bound = estimate.interval[0] if gate.at_least else estimate.interval[1]
    holds = bound >= gate.bound if gate.at_least else bound <= gate.bound
    side = "lower" if gate.at_least else "upper"
    why = f"{gate.name} is {estimate.value:.4f}, and the {side} end of its 95 % interval is {bound:.4f}"
    return GateResult(gate.text, holds, why)


def require(results: Sequence[GateResult]) -> None:
    """Raise unless every condition holds.

    Raises:
        GateError: the message names every condition that does not hold, and the numbers.
    """
    failed = [one for one in results if not one.holds]
    if failed:
        raise GateError(
            "; ".join(f"--fail-unless {one.condition!r} does not hold: {one.why}" for one in failed),
            next_step="see the report; more test images narrow an interval, a better model moves it",
        )


def metrics_values(metrics: Metrics) -> Values:
    """Return the numbers of an evaluation by their names in conditions."""
    values = {key: metrics.overall.estimate(key) for key in METRICS}
    for name in metrics.classes:
        values |= {f"{name}.{key}": metrics.per_class[name].estimate(key) for key in METRICS}
    return values if metrics.audit is None else {**values, **audit_values(metrics.audit)}


def audit_values(audit: Audit) -> Values:
    """Return the rates of an audit by their names in conditions."""
    bare, found, response = audit.bare, audit.found[audit.headline], audit.response
    rates = (
        Estimate(bare.excess, bare.excess_interval),
        Estimate(found.value, found.interval),
        Estimate(response.value, response.interval),
    )
    return dict(zip(AUDIT_RATES, rates, strict=True))
