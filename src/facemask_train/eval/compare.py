"""`fmask compare`: runs that were scored on the same images, against the first of them, into `runs/comparisons/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.core.errors import DataError, MissingError, UsageError, nearest
from facemask_train.core.files import check_name, digest_data, locked, read_json, recover, replacing, write_json
from facemask_train.core.types import SPLITS, ImageResult
from facemask_train.eval import audit, detections_table
from facemask_train.eval.evaluate import METRICS as RESULT
from facemask_train.eval.measures.bootstrap import resample
from facemask_train.eval.measures.metrics import ENOUGH_IMAGES, NUMBERS
from facemask_train.eval.measures.paired_bootstrap import (
    Difference,
    Side,
    differences,
    disagreements,
    flipped_difference,
    of_recipes,
    side,
)
from facemask_train.eval.perturbations.kinds import KINDS
from facemask_train.report.wording import of_checkpoints, of_two_recipes
from facemask_train.train import runs

COMPARE_VERSION = 1
"""Raised by hand when what a comparison says changes."""

SEEDS = 3
"""From so many seeds on each side a comparison speaks of recipes."""

MARKER, PAGE, REPORT, GALLERY = "compare.json", "report.html", "report.md", "disagreements.jpg"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison: its folder, and what its `compare.json` says."""

    folder: Path
    found: Mapping[str, Any]
    up_to_date: bool


@dataclass(frozen=True, eq=False, slots=True)
class Entrant:
    """One run as it was scored: `run.json`, the evaluation's folder and `metrics.json`."""

    name: str
    run: Mapping[str, Any]
    folder: Path
    metrics: Mapping[str, Any]

    @property
    def threshold(self) -> float:
        return float(self.metrics["operating_point"]["threshold"])

    @property
    def recipe(self) -> str:
        """A digest of all that makes a run but its seed."""
        settings = {key: value for key, value in (self.run.get("settings") or {}).items() if key != "seed"}
        return digest_data([settings, (self.run.get("ensemble") or {}).get("hash")])


def compare(
    root: Path, names: Sequence[str], *, data: str | None = None, split: str = "test", metric: str = "map50"
) -> Comparison:
    """Tell models apart on the same images: the first run against each of the others.

    Args:
        names: two runs or more.
        data: the ensemble on which they were scored; without it, the one that they have in common.
        metric: one of `estimates.NUMBERS`, which the verdict is about.

    Raises:
        UsageError: fewer than two runs, one twice, or an unknown metric or split.
        MissingError: no such run, or one that has not been scored on this ensemble's split.
        DataError: they were scored on different images.
    """
    _check(names, metric, split)
    entrants = _entrants(root, names, data, split)
    inputs = {
        "version": COMPARE_VERSION,
        "metric": metric,
        "evaluations": [digest_data(one.metrics) for one in entrants],
    }
    others = "-".join(names[1:]) if len(names) < 4 else f"{len(names) - 1}-others"
    target = root / "runs" / "comparisons" / f"{names[0]}-vs-{others}-{entrants[0].folder.name}"
    with locked(target):
        recover(target)
        known = read_json(target / MARKER)
        if known is not None and known["inputs"] == inputs:
            return Comparison(target, known, up_to_date=True)
        with replacing(target) as folder:
            found = {**_write(folder, root, entrants, metric), "inputs": inputs}
            write_json(folder / MARKER, found)
    return Comparison(target, found, up_to_date=False)


def _check(names: Sequence[str], metric: str, split: str) -> None:
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            f"expected two different runs or more, found {', '.join(names) or 'none'}", next_step="fmask compare A B"
        )
    if metric not in NUMBERS:
        raise UsageError(
            f"--metric {metric}: no such metric{nearest(metric, NUMBERS)}", next_step=f"one of: {', '.join(NUMBERS)}"
        )
    if split not in SPLITS:
        raise UsageError(
            f"--split {split}: no such split{nearest(split, SPLITS)}", next_step=f"one of: {', '.join(SPLITS)}"
        )


# ---- which evaluations ----


def _entrants(root: Path, names: Sequence[str], data: str | None, split: str) -> list[Entrant]:
    folders = [runs.run_folder(root, name) for name in names]
    abouts = [runs.read_run(folder) for folder in folders]
    scored = [_scored(folder, split) for folder in folders]
    ensemble = data or _common(names, scored, abouts, split)
    found = []
    for name, about, there in zip(names, abouts, scored, strict=True):
        if ensemble not in there:
            raise MissingError(
                f"run {name} has not been scored on {ensemble}, {split}; only on: {', '.join(there) or 'nothing'}",
                next_step=f"fmask evaluate {name} --data {ensemble} --split {split}",
            )
        found.append(Entrant(name, about, *there[ensemble]))
    _same_images(found, ensemble, split)
    return found


def _scored(folder: Path, split: str) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """Return a run's finished evaluations on a split, by ensemble."""
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path in sorted((folder / "evaluation").glob(f"[!.]*/{RESULT}")):
        said = read_json(path)
        if said is not None and said.get("split") == split and "images_digest" in said:
            found[str(said["ensemble"])] = (path.parent, said)
    return found


def _common(
    names: Sequence[str], scored: Sequence[Mapping[str, Any]], abouts: Sequence[Mapping[str, Any]], split: str
) -> str:
    """Return the ensemble on which all were scored, the first run's own before others."""
    common = [name for name in scored[0] if all(name in one for one in scored)]
    own = (abouts[0].get("ensemble") or {}).get("name", "")
    if common:
        return own if own in common else common[0]
    lacking = next(name for name, one in zip(names, scored, strict=True) if not one or own not in one)
    wanted = own or next((name for one in scored for name in one), "ENSEMBLE")
    raise MissingError(
        f"expected an evaluation of each run on the same images; {names[0]} was scored on "
        f"{', '.join(scored[0]) or 'nothing'}, {', '.join(names[1:])} on "
        f"{', '.join(sorted({name for one in scored[1:] for name in one})) or 'nothing'} ({split})",
        next_step=f"fmask evaluate {lacking} --data {wanted} --split {split}",
    )


def _same_images(found: Sequence[Entrant], ensemble: str, split: str) -> None:
    for other in found[1:]:
        if other.metrics["images_digest"] != found[0].metrics["images_digest"]:
            raise DataError(
                f"{found[0].name} and {other.name} were scored on different images, though both call them "
                f"{ensemble}, {split} ({found[0].metrics['images']} and {other.metrics['images']} images): the "
                "ensemble was built anew in between",
                next_step=" && ".join(f"fmask evaluate {one.name} --data {ensemble} --split {split}" for one in found),
            )


def _aligned(entrants: Sequence[Entrant]) -> list[list[ImageResult]]:
    """Return each run's images in one order, by content, whatever their names are."""
    return [_by_content(one.folder) for one in entrants]


def _by_content(folder: Path) -> list[ImageResult]:
    digests = detections_table.read_digests(folder)
    return sorted(detections_table.read_images(folder), key=lambda image: (digests[image.image], image.image))


# ---- what comes out ----


def _write(folder: Path, root: Path, entrants: Sequence[Entrant], metric: str) -> dict[str, Any]:
    from facemask_train.report import comparison

    images = _aligned(entrants)
    weights = resample(len(images[0]))
    sides = [side(own, one.threshold, weights) for own, one in zip(images, entrants, strict=True)]
    compared = [_pair(entrants, sides, index, metric) for index in range(1, len(entrants))]
    recipes = _recipes(entrants, sides, metric)
    apart = disagreements(images[0], images[-1], (entrants[0].threshold, entrants[-1].threshold))
    last = compared[-1]
    headline = recipes or {**last["metrics"][metric], "verdict": last["verdict"]}
    found = {
        "runs": [
            {
                "run": one.name,
                "threshold": one.threshold,
                **{key: round(own.values[key], 6) for key in NUMBERS},
                "shortcut_rate": (one.metrics.get("audit") or {}).get("shortcut_rate"),
            }
            for one, own in zip(entrants, sides, strict=True)
        ],
        "ensemble": entrants[0].metrics["ensemble"],
        "split": entrants[0].metrics["split"],
        "images": entrants[0].metrics["images"],
        "few": entrants[0].metrics["few"],
        "metric": metric,
        **{key: headline[key] for key in ("difference", "interval", "verdict")},
        "pairs": compared,
        "recipes": recipes,
        "disagreements": len(apart),
    }
    ensemble = check_name(found["ensemble"], f"{entrants[0].folder}: ensemble")
    data = root / "data" / "ensembles" / ensemble
    comparison.write(folder, found, [one.name for one in entrants], sides, apart, data)
    return found


def _pair(entrants: Sequence[Entrant], sides: Sequence[Side], index: int, metric: str) -> dict[str, Any]:
    first, second = entrants[0], entrants[index]
    found = differences(sides[0], sides[index])
    images = int(first.metrics["images"])
    few = bool(first.metrics["few"]) or images < ENOUGH_IMAGES
    flips = _shortcuts(first, second)
    return {
        "first": first.name,
        "second": second.name,
        "metrics": {key: _plain(one) for key, one in found.items()},
        "shortcut": None if flips is None else _plain(flips),
        "verdict": of_checkpoints(first.name, second.name, found[metric], metric, images, few=few),
    }


def _plain(one: Difference) -> dict[str, Any]:
    return {"difference": round(one.value, 6), "interval": [round(x, 6) for x in one.interval]}


def _shortcuts(first: Entrant, second: Entrant) -> Difference | None:
    """Return the difference of the shortcut rates on unseen kinds, where both were audited and it is measurable."""
    said = [one.metrics.get("audit") for one in (first, second)]
    if not all(one and one["shortcut_rate"]["measurable"] for one in said):
        return None
    tables = [_flips(one) for one in (first, second)]
    return None if None in tables else flipped_difference(*(table for table in tables if table is not None))


def _flips(one: Entrant) -> dict[str, tuple[int, int]] | None:
    import pyarrow.parquet as pq

    path = one.folder.parents[1] / "audit" / one.folder.name / audit.OUTCOMES
    if not path.is_file():
        return None
    unseen = {kind.name for kind in KINDS if not kind.seen and not kind.must_change}
    found: dict[str, tuple[int, int]] = {}
    for row in pq.read_table(path).to_pylist():
        if row["kind"] in unseen:
            flipped, asked = found.get(row["image"], (0, 0))
            found[row["image"]] = flipped + (row["result"] == "flipped"), asked + 1
    return found


def _recipes(entrants: Sequence[Entrant], sides: Sequence[Side], metric: str) -> dict[str, Any] | None:
    """Return the difference of two recipes where the runs are of two, with enough seeds each."""
    by: dict[str, list[int]] = {}
    for index, one in enumerate(entrants):
        by.setdefault(one.recipe, []).append(index)
    groups = list(by.values())
    seeds = [{entrants[index].run["settings"].get("seed") for index in group} for group in groups]
    if len(groups) != 2 or min(map(len, seeds)) < SEEDS:
        return None
    first, second = ([sides[index] for index in group] for group in groups)
    found = of_recipes(first, second, metric)
    named = [[entrants[index].name for index in group] for group in groups]
    images = int(entrants[0].metrics["images"])
    verdict = of_two_recipes(named[0], named[1], found, metric, images)
    return {"first": named[0], "second": named[1], **_plain(found), "verdict": verdict}
