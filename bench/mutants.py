"""Mutation testing: modify the modules that compute the results, one small change at a time, and run their tests.

    python bench/mutants.py                 # every group of modules, or: make mutants
    python bench/mutants.py boxes archive   # some of them; the figures of the others are kept
    python bench/mutants.py --survivors     # only those that survived the last time, after tests were added

The mutants are those of cosmic-ray's operators that need no settings: another operator or comparison, a number off by
one, `not` added, `and` for `or`, a loop that never runs, a decorator removed, and so on. From each group, 150 are
sampled, or all if there are fewer. The sample depends only on the seed and on the changed line, not on edits elsewhere.

Not counted: a change inside an annotation or of `if TYPE_CHECKING` (neither is evaluated), code that does not compile,
and the mutants of `equivalent_mutants.toml`, each with the reason why no test can distinguish it from the original.

Each mutant is written into a temporary copy of `src` and tested there, in a process forked from one that has already
loaded the heavy packages. A mutant is killed if a test fails, if the module cannot be imported, or if the tests take
ten times as long as without it. Results are written to `bench/results/mutants.json`.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
PACKAGE = "src/facemask_train"
RESULT = REPO / "bench/results/mutants.json"
EQUIVALENT = REPO / "bench/equivalent_mutants.toml"
SEED, SAMPLE = 14, 150
LEAST_SCORE = 0.85
MEMORY = 16 * 1024**3

LOADED_ONCE = (
    *(
        "numpy",
        "scipy.stats",
        "scipy.sparse.csgraph",
        "hypothesis",
        "PIL.Image",
        "cv2",
        "pydantic",
        "yaml",
        "rich.console",
    ),
    *("pyarrow.parquet", "faiss", "joblib", "pycocotools.cocoeval", "filelock", "requests", "psutil"),
    *("pytest", "_hypothesis_pytestplugin", "pytest_timeout", "xdist.plugin"),
)
"""The conftest of the tests below, without what starts threads or takes seconds."""

PYTEST = (
    *("-q", "-x", "--no-header", "--hypothesis-profile=mutants", f"--hypothesis-seed={SEED}"),
    *("-p", "_hypothesis_pytestplugin", "-p", "pytest_timeout", "-p", "xdist.plugin", "-p", "no:cacheprovider"),
    *("-p", "no:unraisableexception", "-p", "no:threadexception"),
)


@dataclass(frozen=True)
class Group:
    """Modules (below the package) and the fast tests (below `tests`) that cover them; `without` are left out."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    without: tuple[str, ...] = ()


GROUPS = {
    "boxes": Group(("core/boxes.py", "core/types.py"), ("core/test_types.py", "core/test_boxes.py")),
    "average-precision": Group(
        ("eval/measures/average_precision.py", "eval/measures/boxes_table.py"),
        ("eval/test_boxes_table.py", "eval/test_average_precision.py"),
        (
            "eval/test_average_precision.py::test_equal_to_the_validators_interpolation",
            "eval/test_average_precision.py::test_numbers_stay_within_their_intervals_and_both_within_0_and_1",
        ),
    ),
    "bootstrap": Group(
        ("eval/measures/bootstrap.py",),
        ("eval/test_bootstrap.py",),
        ("eval/test_bootstrap.py::test_95_of_100_intervals_hold_the_truth",),
    ),
    "prevalence": Group(
        ("apps/survey/prevalence.py", "apps/survey/proportions.py", "apps/survey/samples.py", "apps/survey/caveats.py"),
        ("apps/test_proportions.py", "apps/test_prevalence.py"),
        (
            "apps/test_prevalence.py::test_the_interval_has_its_nominal_coverage",
            "apps/test_prevalence.py::test_a_rate_lies_in_its_interval_and_both_within_0_and_1",
        ),
    ),
    "split-groups": Group(
        ("dataset/grouping/groups.py", "dataset/grouping/split.py"), ("dataset/test_split.py", "dataset/test_groups.py")
    ),
    "archive": Group(
        tuple(f"sources/{name}.py" for name in ("archive", "members", "zip_members", "tar_stream")),
        ("sources/test_archive_limits.py", "sources/test_archive.py"),
        tuple(
            f"sources/test_archive.py::test_{name}"
            for name in (
                "a_folder_and_its_archives_have_one_digest",
                "an_archive_with_more_members_than_16_bits_can_count",
                "whatever_its_name_no_member_lands_outside",
                "a_flipped_bit_is_noticed_or_changes_nothing",
                "a_bomb_is_refused_before_it_is_unpacked",
                "a_truncated_archive",
            )
        ),
    ),
    "books": Group(
        ("dataset/build.py", "dataset/loading/load.py", "dataset/loading/validate.py"),
        (*("dataset/test_load.py", "dataset/test_validate.py", "dataset/test_build_decisions.py"),),
    ),
}
"""`without`: tests that import torch, or take as long as all others together."""


@dataclass(frozen=True)
class Mutant:
    """One change: `before` and `after` are the changed lines, stripped; `function` contains them."""

    module: str
    function: str
    before: str
    after: str
    operator: str
    occurrence: int
    order: str


# ---- which mutants there are ----


def mutants_of(root: Path, module: str) -> list[Mutant]:
    """Return all mutants of a module of the checkout at `root`, in the order of the draw."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    text = (root / PACKAGE / module).read_text()
    nodes = list(ast_nodes(get_ast(text)))
    skipped, functions = not_evaluated(ast.parse(text)), functions_by_line(text)
    found = []
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments():
            continue
        positions = [position for node in nodes for position in operator().mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            if not any(low <= start < high for low, high in skipped):
                line, function = text.splitlines()[start[0] - 1].strip(), functions.get(start[0], "")
                key = (
                    SEED,
                    module,
                    function,
                    line,
                    name,
                    sum(one == start for one, _ in positions[:occurrence]),
                    start[1],
                )
                order = hashlib.sha256(repr(key).encode()).hexdigest()
                found.append(Mutant(module, function, line, "", name, occurrence, order))
    return sorted(found, key=lambda mutant: mutant.order)


def not_evaluated(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the ranges (line, column) of annotations and of `if TYPE_CHECKING` lines."""
    nodes: list[ast.expr | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                nodes.append(node.returns)
            case ast.arg() | ast.AnnAssign():
                nodes.append(node.annotation)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                nodes.append(node.test)
    spans = [((one.lineno, one.col_offset), (one.end_lineno or 0, one.end_col_offset or 0)) for one in nodes if one]
    checks = [one for one in nodes if isinstance(one, ast.Name) and one.id == "TYPE_CHECKING"]
    return spans + [((one.lineno, 0), (one.lineno + 1, 0)) for one in checks]


def functions_by_line(text: str) -> dict[int, str]:
    """Return the innermost function or class of each line."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, above: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = above
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{above}.{child.name}".lstrip(".")
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                found.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), name))
            visit(child, name)

    visit(ast.parse(text), "")
    return found


def applied(mutant: Mutant, text: str) -> tuple[Mutant, str] | None:
    """Return the mutant with its changed lines, and the module's `text` with it; None if that does not compile."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    changed = mutate_code(text, get_operator(mutant.operator)(), mutant.occurrence)
    try:
        compile(changed, mutant.module, "exec")
    except SyntaxError:
        return None
    lines = list(difflib.unified_diff(text.splitlines(), changed.splitlines(), n=0, lineterm=""))[2:]
    before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return Mutant(**asdict(mutant) | {"before": before, "after": " ".join(after.split())}), changed


# ---- how one is tested ----


def scratch_copy(folder: Path) -> Path:
    """Copy what the tests need from the checkout, so that it can be edited meanwhile."""
    for name in ("src", "tests", "configs"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", folder)
    return folder


def run_tests(group: Group, root: Path, *, limit: float, module: str = "") -> tuple[int | None, float]:
    """Run a group's tests in the copy at `root`, those named after `module` first.

    Returns:
        (pytest's exit code, None if it took too long; seconds)
    """
    begun = time.monotonic()
    child = os.fork()
    if not child:
        _test_and_exit(group, root, module)
    while time.monotonic() - begun < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - begun
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, limit


def _test_and_exit(group: Group, root: Path, module: str) -> None:
    """In the forked process: run the tests, and exit."""
    code = 99
    try:
        os.setsid()
        out = os.open(root / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.chdir(root)
        sys.path.insert(0, str(root / "src"))
        os.environ |= {"PYTHONPATH": str(root / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        import hypothesis
        import pytest

        # any counterexample will do: it need not be minimized or saved
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", deadline=None, database=None, phases=phases, max_examples=20)
        without = [f"--deselect=tests/{name}" for name in group.without]
        tests = sorted(group.tests, key=lambda name: Path(module).stem not in name)
        code = int(pytest.main([*PYTEST, *without, *(f"tests/{name}" for name in tests)]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def without_bytecode(path: Path) -> None:
    """Delete the compiled module: Python cannot distinguish two mutants with the same second and the same length."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def tested(
    group: Group, root: Path, equivalent: set[tuple[str, str, str]], size: int, earlier: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Test the sample of a group, or those of it that survived in the `earlier` figures, and return the figures."""
    sys.dont_write_bytecode = False
    code, _ = run_tests(group, root, limit=600)
    if code != 0:
        sys.exit(f"the tests fail without any mutant:\n{(root / 'log').read_text()}")
    sys.dont_write_bytecode = True  # but keep what the first run compiled
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    _, seconds = run_tests(group, root, limit=600)
    drawn = sorted((one for module in group.modules for one in mutants_of(root, module)), key=lambda one: one.order)
    again = [tuple(one.values()) for one in earlier["survivors"]] if earlier else []
    fates: Counter[str] = Counter()
    survivors = []
    for mutant, before, after in sample(root, drawn, size):
        names = {key: getattr(mutant, key) for key in ("module", "function", "before", "after")}
        if earlier and tuple(names.values()) not in again:
            continue
        if (mutant.module, mutant.before, mutant.after) in equivalent:
            fates["equivalent"] += 1
            continue
        path = root / PACKAGE / mutant.module
        without_bytecode(path)
        path.write_text(after)
        code, _ = run_tests(group, root, limit=max(20, 10 * seconds), module=mutant.module)
        path.write_text(before)
        fates["survived" if code == 0 else "too slow" if code is None else "failed"] += 1
        if code == 0:
            survivors.append(names)
            print(f"  {mutant.module} {mutant.function}\n    - {mutant.before}\n    + {mutant.after}", flush=True)
    if earlier:
        fates["failed"] += earlier["killed"] - earlier["killed by time"]
        fates["too slow"] += earlier["killed by time"]
        fates["equivalent"] += earlier["equivalent"]
    killed = fates["failed"] + fates["too slow"]
    counted = killed + fates["survived"]
    return {
        "mutants": len(drawn),
        "sampled": counted + fates["equivalent"],
        "equivalent": fates["equivalent"],
        "killed": killed,
        "killed by time": fates["too slow"],
        "score": round(killed / counted, 3) if counted else None,
        "seconds of the tests": round(seconds, 1),
        "survivors": survivors,
    }


def sample(root: Path, drawn: list[Mutant], size: int) -> Iterator[tuple[Mutant, str, str]]:
    """Yield the first mutants that compile, with the texts of their modules before and after."""
    given = 0
    for mutant in drawn:
        text = (root / PACKAGE / mutant.module).read_text()
        found = applied(mutant, text)
        if found:
            yield found[0], text, found[1]
            given += 1
        if given == size:
            return


def read_equivalent() -> set[tuple[str, str, str]]:
    """Return (module, before, after) of each mutant that is equivalent to the original; warn about stale ones."""
    listed = tomllib.loads(EQUIVALENT.read_text())["mutant"] if EQUIVALENT.exists() else []
    for one in listed:
        lines = {line.strip() for line in (REPO / PACKAGE / one["module"]).read_text().splitlines()}
        if one["before"] not in lines:
            print(f"{EQUIVALENT.name}: {one['module']} has no line {one['before']!r} any more: remove or correct it")
    return {(one["module"], one["before"], one["after"]) for one in listed}


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation testing of the modules that compute the results")
    parser.add_argument("groups", nargs="*", default=list(GROUPS), help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--survivors", action="store_true", help="only those that survived the last time")
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"how many of each group (default: {SAMPLE})")
    given = parser.parse_args()
    wanted = given.groups
    for name in LOADED_ONCE:
        importlib.import_module(name)
    gc.freeze()  # loaded objects stay: garbage collection in a forked process can ignore them
    kept = json.loads(RESULT.read_text())["groups"] if RESULT.exists() else {}
    equivalent = read_equivalent()
    print(f"seed {SEED}, {given.sample} mutants of each group", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = scratch_copy(Path(folder))
        for name in wanted:
            print(f"{name}: {', '.join(GROUPS[name].modules)}", flush=True)
            found = tested(GROUPS[name], root, equivalent, given.sample, kept[name] if given.survivors else None)
            kept[name] = {"date": time.strftime("%Y-%m-%d"), **found}
            print(f"{name}: {found['killed']} of {found['sampled'] - found['equivalent']} killed, {found['score']:.1%}")
            record = {
                "command": "make mutants",
                "seed": SEED,
                "groups": {one: kept[one] for one in GROUPS if one in kept},
            }
            RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(*(f"{name:12}{kept[name]['score']:8.1%}" for name in wanted), sep="\n")
    return int(any(kept[name]["score"] < LEAST_SCORE for name in wanted))


if __name__ == "__main__":
    sys.exit(main())
