"""Comparisons and gates: paired differences, verdicts in words, what is refused, and what a CI is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facemask_train.core.errors import DataError, GateError, MissingError, UsageError
from facemask_train.core.files import write_json
from facemask_train.core.types import Annotation, Box, Detection, ImageResult
from facemask_train.eval.compare import ComparisonResult, compare
from facemask_train.eval.gate import EVALUATION_NAMES, check_gates, read_gates, require
from facemask_train.eval.measures.bootstrap import UNDEFINED, Estimate, bootstrap_weights, group_weights
from facemask_train.eval.measures.metrics import METRICS
from facemask_train.eval.measures.paired_bootstrap import (
    Difference,
    ScoredModel,
    detectable_differences,
    disagreements,
    paired_differences,
    rate_difference,
    recipe_difference,
    score_model,
)
from facemask_train.eval.records.comparison import Comparison
from facemask_train.eval.records.metrics import Metrics
from facemask_train.report.wording import checkpoint_verdict, recipe_verdict
from helpers import shapes
from helpers.command_line import fmask
from helpers.runs import make_run, score

FACE, OTHER = (0.0, 0.0, 40.0, 40.0), (100.0, 0.0, 140.0, 40.0)


def images(count: int, right: float, seed: int = 0, *, hard: float = 0.0) -> list[ImageResult]:
    """Return images with a face each; a detector finds this share of them, fewer of the same hard half."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        name = ("mask", "no_mask")[index % 2]
        chance = right - (hard if index % 4 < 2 else 0)
        answer = (Detection(name, float(rng.uniform(0.5, 0.9)), FACE),) if rng.random() < chance else ()
        found.append(ImageResult(f"{index:04d}.jpg", 200, 200, (Annotation(name, Box(*FACE)),), answer))
    return found


# ---- differences ----


def test_a_model_against_itself_is_no_difference() -> None:
    own = score_model(images(60, 0.7), 0.5, bootstrap_weights(60))
    for one in paired_differences(own, own).values():
        assert (one.difference, one.interval) == (0.0, (0.0, 0.0))


def test_a_pair_is_told_apart_where_two_samples_would_not_be() -> None:
    """One model misses two of a hundred faces more than the other, on the same images."""
    first = images(100, 0.6, seed=3)
    worse = [
        ImageResult(one.image, 200, 200, one.labels, () if index in (4, 5, 8, 9, 14, 15) else one.detections)
        for index, one in enumerate(first)
    ]
    weights = bootstrap_weights(100)
    one, other = score_model(first, 0.4, weights), score_model(worse, 0.4, weights)
    paired = paired_differences(other, one)["recall"]
    apart = np.std(one.resamples["recall"] - other.resamples["recall"][::-1])
    assert paired.difference > 0
    assert (paired.interval[1] - paired.interval[0]) / 3.92 < 0.6 * apart


def resampled(columns: dict[str, np.ndarray]) -> ScoredModel:
    """Return a model whose resamples are given, on 200 images with a face each."""
    own = score_model(images(200, 0.7), 0.5, bootstrap_weights(200, 10))
    return ScoredModel(own.split, dict.fromkeys(METRICS, 0.0), {key: columns[key] for key in METRICS})


def test_more_metrics_make_wider_intervals_unless_they_move_together() -> None:
    rng = np.random.default_rng(0)
    nothing = resampled(dict.fromkeys(METRICS, np.zeros(4000)))
    apart = resampled({key: rng.normal(0, 0.01, 4000) for key in METRICS})
    together = resampled(dict.fromkeys(METRICS, rng.normal(0, 0.01, 4000)))
    widths = [paired_differences(nothing, one)["map50"].interval[1] for one in (together, apart)]
    assert widths[0] == pytest.approx(0.0197, abs=0.0006), "as for one metric: 1.97 standard errors"
    assert widths[1] == pytest.approx(0.0258, abs=0.0008), "five independent ones: the 95 % quantile of the largest"
    several = paired_differences(nothing, apart, [apart, resampled({k: rng.normal(0, 0.01, 4000) for k in METRICS})])
    assert several["map50"].interval[1] > widths[1], "ten of them"


def test_how_large_a_difference_has_to_be() -> None:
    rng = np.random.default_rng(1)
    nothing = resampled(dict.fromkeys(METRICS, np.zeros(4000)))
    other = resampled(dict.fromkeys(METRICS, rng.normal(0, 0.01, 4000)))
    found = detectable_differences(nothing, other)
    assert found["recall"] == pytest.approx(0.0197 + 0.0084, abs=0.0006), "the interval, and 0.84 standard errors"
    assert "shows a difference of 2.8 points or more 4 times in 5" in checkpoint_verdict(
        "a", "b", Difference(0.01, (-0.01, 0.03)), "recall", 80, too_few=False, detectable=0.028
    )


def test_a_burst_counts_once() -> None:
    """The same images, each alone and in scenes of four that go wrong together."""
    first, second = images(120, 0.6, seed=3), images(120, 0.75, seed=4)
    alike = [first[index // 4 * 4] for index in range(120)], [second[index // 4 * 4] for index in range(120)]
    alone, scenes = np.arange(120), np.arange(120) // 4
    widths = []
    for groups in (alone, scenes):
        models = [score_model(one, 0.4, group_weights(groups), groups) for one in alike]
        low, high = paired_differences(models[0], models[1])["recall"].interval
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_resamples_without_a_class_warn_of_nothing() -> None:
    """Ten images, of which one has a mask: a third of the resamples lack it."""
    few = [ImageResult(f"{n}.jpg", 9, 9, (Annotation("no_mask" if n else "mask", Box(*FACE)),), ()) for n in range(10)]
    own = score_model(few, 0.5, bootstrap_weights(10))
    assert own.resamples["recall"].shape == (1000,)


def test_difference_of_rates() -> None:
    clean = {f"{index}": (0, 4) for index in range(30)}
    caught = {f"{index}": (2, 4) for index in range(30)}
    found = rate_difference(clean, caught)
    assert found == Difference(0.5, (0.5, 0.5))
    assert rate_difference(clean, {}) is None


def runs_of(values: list[float]) -> list[ScoredModel]:
    own = score_model(images(40, 0.7), 0.5, bootstrap_weights(40))
    return [ScoredModel(own.split, {"map50": value}, {"map50": np.full(1000, value)}) for value in values]


def test_two_recipes_are_told_apart_by_their_seeds_spread() -> None:
    near = recipe_difference(runs_of([0.70, 0.71, 0.72]), runs_of([0.80, 0.81, 0.82]), "map50")
    assert near.difference == pytest.approx(0.1)
    # By hand: standard error sqrt(2 * 0.01^2 / 3) = 0.00816, four degrees of freedom, t = 2.776.
    assert near.interval == (pytest.approx(0.1 - 0.02266, abs=2e-4), pytest.approx(0.1 + 0.02266, abs=2e-4))
    wide = recipe_difference(runs_of([0.60, 0.71, 0.82]), runs_of([0.70, 0.81, 0.92]), "map50")
    assert wide.interval[0] < 0 < wide.interval[1]


def test_verdicts_in_words() -> None:
    more = checkpoint_verdict("a", "b", Difference(0.031, (0.012, 0.05)), "map50", 200, too_few=False)
    assert "(b) scores 3.1 points more than a, 95 % interval 1.2 to 5.0" in more
    assert "three or more seeds" in more
    less = checkpoint_verdict("a", "b", Difference(-0.031, (-0.05, -0.012)), "map50", 200, too_few=False)
    assert "3.1 points less than a, 95 % interval 1.2 to 5.0" in less
    same = checkpoint_verdict("a", "b", Difference(0.01, (-0.01, 0.03)), "recall", 80, too_few=True)
    assert "cannot be told apart on these 80 images" in same
    assert "Too few to measure" in same
    assert "cannot be told apart" in recipe_verdict(["a"], ["b"], Difference(0.01, (-0.1, 0.1)), "map50", 9)


def test_faces_they_disagree_on() -> None:
    labels = (Annotation("mask", Box(*FACE)), Annotation("no_mask", Box(*OTHER)))
    first = [ImageResult("a.jpg", 200, 200, labels, (Detection("mask", 0.9, FACE), Detection("no_mask", 0.8, OTHER)))]
    second = [
        ImageResult("a.jpg", 200, 200, labels, (Detection("no_mask", 0.7, FACE), Detection("no_mask", 0.3, OTHER)))
    ]
    told = disagreements(first, second, (0.5, 0.5))
    assert [(one.label.name, one.right) for one in told] == [("mask", 0), ("no_mask", 0)]
    assert told[0].detections[1] == Detection("no_mask", 0.7, FACE)
    assert told[1].detections[1] is None
    assert disagreements(first, first, (0.5, 0.5)) == []


# ---- the command's function ----


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same weights at two sizes, and one that was scored on another ensemble."""
    root = tmp_path_factory.mktemp("compared")
    ensemble = shapes.draw_ensemble(root, counts=(2, 2, 6))
    shapes.draw_ensemble(root, name="v6", counts=(1, 2, 3), seed=4)
    for name in ("a", "b", "c"):
        make_run(root, ensemble, name)
    score(root, run="a")
    score(root, run="b", imgsz=96)
    score(root, run="c", data="v6")
    return root


@pytest.fixture(scope="module")
def compared(root: Path) -> ComparisonResult:
    return compare(root, ["a", "b"])


def test_what_a_comparison_says(compared: ComparisonResult) -> None:
    comparison = compared.comparison
    own = {one.run: one.map50 for one in comparison.runs}
    assert 0 < own["a"] < 1
    assert own["a"] != own["b"] > 0, "there is a difference to tell"
    assert comparison.difference == pytest.approx(own["b"] - own["a"], abs=2e-6)
    assert comparison.interval[0] <= comparison.difference <= comparison.interval[1]
    assert "Too few to measure" in comparison.verdict
    names = ["compare.json", "disagreements.jpg", "report.html", "report.md"]
    assert sorted(path.name for path in compared.folder.iterdir()) == names
    assert comparison == Comparison.load(compared.folder)
    html = (compared.folder / "report.html").read_text()
    assert comparison.verdict.replace("'", "&#39;") in html
    assert "http" not in html.replace("http-equiv", "")


def test_numbers_are_those_of_the_evaluations(root: Path, compared: ComparisonResult) -> None:
    assert len(compared.comparison.runs) == 2
    for one in compared.comparison.runs:
        metrics = Metrics.load(root / "runs" / one.run / "evaluation/v5-test")
        assert one.map50 == pytest.approx(metrics.map50, abs=2e-6)
        assert one.recall == pytest.approx(metrics.operating_point.recall, abs=2e-6)


def test_an_equal_comparison_is_not_repeated(root: Path, compared: ComparisonResult) -> None:
    assert compare(root, ["a", "b"]).up_to_date
    assert not compare(root, ["a", "b"], metric="recall").up_to_date
    assert not compare(root, ["a", "b"]).up_to_date


def test_runs_that_were_scored_on_other_images_are_refused(root: Path) -> None:
    with pytest.raises(MissingError, match="expected an evaluation of each run on the same images") as raised:
        compare(root, ["a", "c"])
    assert raised.value.next_step == "fmask evaluate c --data v5 --split test"
    with pytest.raises(MissingError, match="run c was not evaluated on v5, test; only on: v6") as raised:
        compare(root, ["a", "c"], data="v5")
    assert "fmask evaluate c --data v5" in raised.value.next_step


def test_an_ensemble_that_was_built_anew_in_between_is_refused(root: Path, tmp_path: Path) -> None:
    path = root / "runs/c/evaluation/v5-test"
    other = json.loads((root / "runs/b/evaluation/v5-test/metrics.json").read_text())
    path.mkdir()
    write_json(path / "metrics.json", other | {"images_digest": "another"})
    with pytest.raises(DataError, match="different images, although both name them v5, test") as raised:
        compare(root, ["a", "c"], data="v5")
    assert "fmask evaluate a --data v5 --split test && fmask evaluate c" in raised.value.next_step
    (path / "metrics.json").unlink()


def test_what_cannot_be_compared(root: Path) -> None:
    for names, said in ((["a"], "two or more different runs"), (["a", "a"], "two or more different runs")):
        with pytest.raises(UsageError, match=said):
            compare(root, names)
    with pytest.raises(UsageError, match=r"no such metric \(did you mean 'map50'"):
        compare(root, ["a", "b"], metric="map51")
    with pytest.raises(MissingError, match="no such run"):
        compare(root, ["a", "nobody"])


# ---- gates ----


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("map50>=0.9", True),
        ("map50 >= 0.91", False),  # the estimate would pass, its interval does not
        ("map50<=0.96", True),
        ("map50<=0.94", False),
        ("bare_excess<=0.05", False),
        ("bare_excess<=0.2", True),
        ("response>=0.1", False),  # not measurable
    ],
)
def test_a_gate_is_about_the_intervals_bound(condition: str, holds: bool) -> None:
    values = {
        "map50": Estimate(0.93, (0.90, 0.955)),
        "bare_excess": Estimate(0.04, (0.01, 0.12)),
        "response": UNDEFINED,
    }
    (verdict,) = check_gates(read_gates([condition], EVALUATION_NAMES), values)
    assert verdict.holds is holds
    if not holds:
        with pytest.raises(GateError) as raised:
            require([verdict])
        assert raised.value.exit_code == 9


@pytest.mark.parametrize("text", ["shortcut<=0.05", "shortcut_seen<=0.05"])
def test_a_gate_on_the_old_rates_is_told_the_new_names(text: str) -> None:
    with pytest.raises(UsageError, match="there is no number named 'shortcut") as raised:
        read_gates([text], EVALUATION_NAMES)
    assert "bare_excess, bare_found, response" in str(raised.value.next_step)


@pytest.mark.parametrize("text", ["map50", "map50>0.9", "map50>=high", "map50>=0.9.1", ">=0.9", "recal>=0.5"])
def test_a_gate_that_cannot_be_read_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-unless"):
        read_gates([text], EVALUATION_NAMES)


def test_a_failing_gate_prints_the_result_and_ends_with_9(root: Path) -> None:
    command = ("evaluate", "a", "--no-audit", "--device", "cpu", "--tracker", "none", "--json")
    done = fmask(*command, "--fail-unless", "map50>=0.999", "--fail-unless", "recall>=0", cwd=root)
    assert done.returncode == 9, done.stderr
    said = json.loads(done.stdout)
    assert [one["holds"] for one in said["fail_unless"]] == [False, True]
    assert {"intervals", "operating_point", "map50", "report"} <= set(said)
    assert "lower end of its 95 % interval" in done.stderr
    assert fmask(*command, "--fail-unless", "map50>=0", cwd=root).returncode == 0
    shown = fmask("compare", "a", "b", "--json", "--fail-unless", "difference>=-1", cwd=root)
    assert shown.returncode == 0, shown.stderr
    assert {"difference", "interval", "verdict"} <= set(json.loads(shown.stdout))
