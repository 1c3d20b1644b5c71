"""`--fail-unless "map50>=0.9"`: a condition that the interval has to meet, not only the number in its middle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facemask_train.core.errors import GateError, UsageError, nearest
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.metrics import NUMBERS

Values = Mapping[str, tuple[float | None, Sequence[float] | None]]
"""By name: a number (0 to 1; a difference from -1 to 1) and its interval."""

_CONDITION = re.compile(r"\s*([a-z0-9_.]+)\s*(>=|<=)\s*(-?[0-9.]+)\s*")

RATES = {"shortcut": "shortcut_rate", "shortcut_seen": "shortcut_rate_seen", "response": "response_rate"}
EVALUATE = (*NUMBERS, *(f"{name}.{key}" for name in CLASSES for key in NUMBERS), *RATES)
"""What `fmask evaluate` can be held to; its own names first, then by class."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: the interval of `name` lies wholly on the asked side of `bound`."""

    text: str
    name: str
    at_least: bool
    bound: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one condition, in words too."""

    condition: str
    holds: bool
    why: str


def read_gates(texts: Iterable[str], known: Sequence[str]) -> list[Gate]:
    """Parse conditions such as `map50>=0.9`.

    Raises:
        UsageError: one has another form, or names nothing that is measured here.
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
                f"--fail-unless {text!r}: nothing here is named '{found[1]}'{nearest(found[1], known)}",
                next_step=f"one of: {', '.join(known)}",
            )
        gates.append(Gate(text.strip(), found[1], found[2] == ">=", float(found[3])))
    return gates


def judge(gates: Sequence[Gate], values: Values) -> list[Verdict]:
    """Say of each condition if it holds. What could not be measured holds nothing."""
    return [_judge(gate, *values.get(gate.name, (None, None))) for gate in gates]


def _judge(gate: Gate, value: float | None, interval: Sequence[float] | None) -> Verdict:
    if value is None or interval is None:
        return Verdict(gate.text, False, f"{gate.name} is not measurable here")
    bound = interval[0] if gate.at_least else interval[1]
    holds = bound >= gate.bound if gate.at_least else bound <= gate.bound
    side = "low" if gate.at_least else "high"
    why = f"{gate.name} is {value:.4f}, and the {side} end of its 95 % interval {bound:.4f}"
    return Verdict(gate.text, holds, why)


def enforce(verdicts: Sequence[Verdict]) -> None:
    """Raise where a condition does not hold.

    Raises:
        GateError: it names every condition that does not hold, and what was found.
    """
    failed = [one for one in verdicts if not one.holds]
    if failed:
        raise GateError(
            "; ".join(f"--fail-unless {one.condition!r} does not hold: {one.why}" for one in failed),
            next_step="look at the report; more test images make an interval narrower, a better model moves it",
        )


def values_of(metrics: Mapping[str, Any]) -> Values:
    """Return what an evaluation's `metrics.json` can be held to."""
    bounds = metrics["intervals"]
    found: dict[str, tuple[float | None, Sequence[float] | None]] = {
        key: (metrics[key], bounds[key]) for key in NUMBERS
    }
    for name in CLASSES:
        found |= {f"{name}.{key}": (metrics["per_class"][name][key], bounds["per_class"][name][key]) for key in NUMBERS}
    return {**found, **rates_of(metrics["audit"] or {})}


def rates_of(audit: Mapping[str, Any]) -> Values:
    """Return what an audit's result can be held to."""
    return {key: (audit[name]["rate"], audit[name]["interval"]) for key, name in RATES.items() if name in audit}
