"""`fmask compare`: the first run against others that were scored on the same images, into `runs/comparisons/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import DataError, MissingError, UsageError, nearest
from facemask_train.core.files import check_name, digest_data, replacing, stage
from facemask_train.core.types import SPLITS, Annotation, Box, ImageResult
from facemask_train.eval import audit, detections_table
from facemask_train.eval.measures.bootstrap import group_codes, group_weights
from facemask_train.eval.measures.metrics import METRICS
from facemask_train.eval.measures.paired_bootstrap import (
    Difference,
    Disagreement,
    ScoredModel,
    detectable_differences,
    disagreements,
    paired_differences,
    rate_difference,
    recipe_difference,
    score_model,
)
from facemask_train.eval.perturbations import rates
from facemask_train.eval.perturbations.perturb import BARE
from facemask_train.eval.perturbations.shortcuts import Face, Outcome
from facemask_train.eval.records.audit import Audit
from facemask_train.eval.records.comparison import (
    Comparison,
    ComparisonInputs,
    PairedComparison,
    RecipeComparison,
    RunScores,
)
from facemask_train.eval.records.metrics import Metrics, read_evaluations
from facemask_train.report.wording import checkpoint_verdict, recipe_verdict
from facemask_train.training import runs
from facemask_train.training.runs import RunRecord

SEEDS = 3
"""With this many seeds on each side, recipes are compared rather than checkpoints."""

PAGE, REPORT, GALLERY = "report.html", "report.md", "disagreements.jpg"
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A finished comparison and its folder."""

    comparison: Comparison
    folder: Path
    up_to_date: bool

    @property
    def page(self) -> Path:
        """The report as an HTML page."""
        return self.folder / PAGE


@dataclass(frozen=True, eq=False, slots=True)
class EvaluatedRun:
    """A run, its `run.json`, and its evaluation."""

    name: str
    run: RunRecord
    folder: Path
    metrics: Metrics

    @property
    def threshold(self) -> float:
        return self.metrics.operating_point.threshold

    @property
    def seed(self) -> int | None:
        return self.run.settings.seed if self.run.settings else None

    @property
    def recipe(self) -> str:
        """A digest of everything that determines a run except its seed."""
        settings = self.run.settings.model_dump(mode="json", exclude={"seed"}) if self.run.settings else {}
        return digest_data([settings, self.run.ensemble.hash if self.run.ensemble else None])


def compare(
    root: Path, names: Sequence[str], *, data: str | None = None, split: str = "test", metric: str = "map50"
) -> ComparisonResult:
    """Compare models on the same images: the first run against each of the others.

    Args:
        names: two or more runs.
        data: the ensemble that they were scored on. Default: the one that they have in common.
        metric: what the verdict is about, one of `METRICS`.

    Raises:
        UsageError: fewer than two runs, a run given twice, or an unknown metric or split.
        MissingError: there is no such run, or it was not scored on this split of the ensemble.
        DataError: the runs were scored on different images.
    """
    _check(names, metric, split)
    evaluated = _evaluated_runs(root, names, data, split)
    digests = tuple(digest_data(one.metrics.to_json()) for one in evaluated)
    inputs = ComparisonInputs(metric, digests, Comparison.VERSION)
    others = "-".join(names[1:]) if len(names) < 4 else f"{len(names) - 1}-others"
    target = root / "runs" / "comparisons" / f"{names[0]}-vs-{others}-{evaluated[0].folder.name}"
    with stage(target):
        known = Comparison.load_if_current(target)
        if known is not None and known.inputs == inputs:
            return ComparisonResult(known, target, up_to_date=True)
        with replacing(target) as folder:
            comparison = _write(folder, root, evaluated, inputs)
    return ComparisonResult(comparison, target, up_to_date=False)


def _check(names: Sequence[str], metric: str, split: str) -> None:
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            f"expected two or more different runs, found {', '.join(names) or 'none'}", next_step="fmask compare A B"
        )
    if metric not in METRICS:
        raise UsageError(
            f"--metric {metric}: no such metric{nearest(metric, METRICS)}", next_step=f"one of: {', '.join(METRICS)}"
        )
    if split not in SPLITS:
        raise UsageError(
            f"--split {split}: no such split{nearest(split, SPLITS)}", next_step=f"one of: {', '.join(SPLITS)}"
        )


# ---- which evaluations ----


def _evaluated_runs(root: Path, names: Sequence[str], data: str | None, split: str) -> list[EvaluatedRun]:
    folders = [runs.run_folder(root, name) for name in names]
    records = [runs.read_run(folder) for folder in folders]
    scored = [_by_ensemble(folder, split) for folder in folders]
    ensemble = data or _common_ensemble(names, scored, records, split)
    found = []
    for name, record, evaluations in zip(names, records, scored, strict=True):
        if ensemble not in evaluations:
            raise MissingError(
                f"run {name} was not evaluated on {ensemble}, {split}; only on: {', '.join(evaluations) or 'nothing'}",
                next_step=f"fmask evaluate {name} --data {ensemble} --split {split}",
            )
        found.append(EvaluatedRun(name, record, *evaluations[ensemble]))
    _check_same_images(found, ensemble, split)
    return found


def _by_ensemble(folder: Path, split: str) -> dict[str, tuple[Path, Metrics]]:
    """Return the evaluations of a run on a split, by ensemble."""
    found = read_evaluations(folder, split=split)
    return {metrics.ensemble: (path, metrics) for path, metrics in found.items()}


def _common_ensemble(
    names: Sequence[str],
    scored: Sequence[Mapping[str, tuple[Path, Metrics]]],
    records: Sequence[RunRecord],
    split: str,
) -> str:
    """Return an ensemble that all runs were evaluated on, preferably the one that the first run was trained on."""
    common = [name for name in scored[0] if all(name in one for one in scored)]
    own = records[0].ensemble.name if records[0].ensemble else ""
    if common:
        return own if own in common else common[0]
    lacking = next(name for name, one in zip(names, scored, strict=True) if not one or own not in one)
    wanted = own or next((name for one in scored for name in one), "ENSEMBLE")
    raise MissingError(
        f"expected an evaluation of each run on the same images; {names[0]} was evaluated on "
        f"{', '.join(scored[0]) or 'nothing'}, {', '.join(names[1:])} on "
        f"{', '.join(sorted({name for one in scored[1:] for name in one})) or 'nothing'} ({split})",
        next_step=f"fmask evaluate {lacking} --data {wanted} --split {split}",
    )


def _check_same_images(found: Sequence[EvaluatedRun], ensemble: str, split: str) -> None:
    first = found[0]
    for other in found[1:]:
        if other.metrics.images_digest != first.metrics.images_digest:
            raise DataError(
                f"{first.name} and {other.name} were evaluated on different images, although both name them "
                f"{ensemble}, {split} ({first.metrics.images} and {other.metrics.images} images): the ensemble was "
                "rebuilt in between",
                next_step=" && ".join(f"fmask evaluate {one.name} --data {ensemble} --split {split}" for one in found),
            )


def _by_content(folder: Path) -> list[ImageResult]:
    """Return the images of an evaluation in an order that depends on their contents, not on their names."""
    digests = detections_table.read_digests(folder)
    return sorted(detections_table.read_images(folder), key=lambda image: (digests[image.image], image.image))


# ---- comparing ----


def _write(folder: Path, root: Path, evaluated: Sequence[EvaluatedRun], inputs: ComparisonInputs) -> Comparison:
    from facemask_train.report import comparison as comparison_page

    images = [_by_content(one.folder) for one in evaluated]
    scenes = detections_table.read_groups(evaluated[0].folder)
    groups = group_codes([scenes[one.image] for one in images[0]])
    weights = group_weights(groups)
    models = [score_model(own, one.threshold, weights, groups) for own, one in zip(images, evaluated, strict=True)]
    apart = disagreements(images[0], images[-1], (evaluated[0].threshold, evaluated[-1].threshold))
    result = _comparison(evaluated, models, apart, inputs)
    ensemble = check_name(result.ensemble, f"{evaluated[0].folder}: ensemble")
    data = root / "data" / "ensembles" / ensemble
    comparison_page.write(folder, result, models, apart, data)
    result.save(folder)
    return result


def _comparison(
    evaluated: Sequence[EvaluatedRun],
    models: Sequence[ScoredModel],
    apart: Sequence[Disagreement],
    inputs: ComparisonInputs,
) -> Comparison:
    metric, metrics = inputs.metric, evaluated[0].metrics
    pairs = tuple(_pair(evaluated, models, index, metric) for index in range(1, len(evaluated)))
    recipes = _recipes(evaluated, models, metric)
    difference = pairs[-1].metrics[metric] if recipes is None else recipes
    return Comparison(
        runs=tuple(_scores(one, model) for one, model in zip(evaluated, models, strict=True)),
        ensemble=metrics.ensemble,
        split=metrics.split,
        images=metrics.images,
        scenes=metrics.scenes,
        too_few=metrics.too_few,
        metric=metric,
        difference=difference.difference,
        interval=difference.interval,
        verdict=pairs[-1].verdict if recipes is None else recipes.verdict,
        pairs=pairs,
        recipes=recipes,
        disagreements=len(apart),
        inputs=inputs,
    )


def _scores(one: EvaluatedRun, model: ScoredModel) -> RunScores:
    values = {key: round(model.values[key], _DIGITS) for key in METRICS}
    audited = one.metrics.audit
    return RunScores(one.name, one.threshold, **values, bare=audited.bare if audited else None)


def _pair(
    evaluated: Sequence[EvaluatedRun], models: Sequence[ScoredModel], index: int, metric: str
) -> PairedComparison:
    first, second = evaluated[0], evaluated[index]
    differences = paired_differences(models[0], models[index], models[1:])
    detectable = detectable_differences(models[0], models[index], models[1:])
    images = first.metrics.images
    too_few = first.metrics.too_few
    bare = _bare_difference(first, second)
    return PairedComparison(
        first.name,
        second.name,
        {key: _rounded(one) for key, one in differences.items()},
        {key: round(value, _DIGITS) for key, value in detectable.items()},
        None if bare is None else _rounded(bare),
        checkpoint_verdict(
            first.name, second.name, differences[metric], metric, images, too_few=too_few, detectable=detectable[metric]
        ),
    )


def _rounded(one: Difference) -> Difference:
    low, high = one.interval
    return Difference(round(one.difference, _DIGITS), (round(low, _DIGITS), round(high, _DIGITS)))


def _bare_difference(first: EvaluatedRun, second: EvaluatedRun) -> Difference | None:
    """Return the difference of the excess on bare faces, over what neither run's training showed, if measured."""
    audits = [one.metrics.audit for one in (first, second)]
    if any(one is None or not one.bare.measurable for one in audits):
        return None
    unseen = [_unseen(one) for one in audits if one is not None]
    tables = [_excesses(one, unseen[0] & unseen[1]) for one in (first, second)]
    return None if tables[0] is None or tables[1] is None else rate_difference(tables[0], tables[1])


def _unseen(found: Audit) -> set[str]:
    rows = (one for one in found.perturbations if one.name == found.headline)
    return {one.perturbation for one in rows if not (one.seen or one.doubt or one.must_change)}


def _excesses(one: EvaluatedRun, names: set[str]) -> dict[str, tuple[float, int]] | None:
    """Return by scene group how many more bare faces failed than their controls, and how many there were."""
    import pyarrow.parquet as pq

    path = one.folder.parents[1] / "audit" / one.folder.name / audit.OUTCOMES
    if not path.is_file():
        return None
    nowhere = Box(0, 0, 1, 1)  # the table does not have the faces' boxes, which are not needed here
    outcomes = [
        Outcome(
            Face(row["image"], row["face"], Annotation(row["name"], nowhere), row["group"]),
            row["perturbation"],
            row["result"],
            row["confidence"],
            row["control"],
            row["detected"],
        )
        for row in pq.read_table(path).to_pylist()
    ]
    found = rates.failures_by_group(rates.perturbed(outcomes, names, BARE), rates.control_rates(outcomes))
    return {group: (failures.failed - failures.controls, failures.faces) for group, failures in found.items()}


def _recipes(evaluated: Sequence[EvaluatedRun], models: Sequence[ScoredModel], metric: str) -> RecipeComparison | None:
    """Return the difference of two recipes, if the runs are of exactly two with enough seeds each."""
    by_recipe: dict[str, list[int]] = {}
    for index, one in enumerate(evaluated):
        by_recipe.setdefault(one.recipe, []).append(index)
    groups = list(by_recipe.values())
    seeds = [{evaluated[index].seed for index in group} for group in groups]
    if len(groups) != 2 or min(map(len, seeds)) < SEEDS:
        return None
    first, second = ([models[index] for index in group] for group in groups)
    names = [tuple(evaluated[index].name for index in group) for group in groups]
    difference = recipe_difference(first, second, metric)
    verdict = recipe_verdict(names[0], names[1], difference, metric, evaluated[0].metrics.images)
    rounded = _rounded(difference)
    return RecipeComparison(rounded.difference, rounded.interval, names[0], names[1], verdict)
