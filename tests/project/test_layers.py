"""Tests of the code's structure: imports only go down, only the command line prints, help imports little,
and nothing is longer than one reads at once.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import facemask_train

PACKAGE = Path(facemask_train.__file__).parent
FLOORS = [
    ("core",),
    ("sources", "formats"),
    ("augment",),
    ("dataset",),
    ("model",),
    ("training",),
    ("eval.measures",),
    ("eval.perturbations",),
    ("eval.records",),
    ("apps.records",),
    ("report",),
    ("eval",),
    ("apps",),
    ("pipeline", "api"),
    ("cli",),
    ("__main__",),
]
"""The rooms, lowest first. What measures and what perturbs lies below the pages, the stages of `eval` above them."""

ROOM_MODULES = 12
HEAVY = ("torch", "torchvision", "ultralytics")
FUNCTION_LINES, MODULE_LINES = 64, 410
"""The most, docstrings and blank lines included."""

ENVIRONMENT = {
    "apps/demo/server.py", "apps/export/space_app.py", "apps/info.py", "apps/media.py", "augment/transforms.py",
    "cli/console.py", "core/dist_env.py", "core/parallel.py", "model/ultralytics_compat.py", "sources/kaggle.py",
    "training/parallel/distributed.py", "training/parallel/launcher.py", "training/parallel/rendezvous.py",
    "training/precision.py",
    "training/tracking/wandb_process.py",
}  # fmt: skip
"""Who touches the environment: to find its place among processes, and to tell packages what only that tells them."""

ABOVE = {"model", "training", "eval.measures", "eval.perturbations", "eval.records", "eval", "report", "apps"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """Return the room of a module's dotted name: the longest that `FLOORS` names."""
    name = module.removeprefix("facemask_train.")
    rooms = [one for rooms in FLOORS for one in rooms if f"{name}.".startswith(f"{one}.")]
    return max(rooms, key=len, default=name)


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path) -> list[str]:
    """Return all that a file imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [
                f"{node.module}.{alias.name}" if node.module == "facemask_train" else node.module
                for alias in node.names
            ]
    return names


def own(path: Path) -> str:
    return room(".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    if own(path) == "__init__":
        return
    for name in imports(path):
        if name.startswith("facemask_train.") and room(name) not in ("__version__", own(path)):
            assert floor(room(name)) < floor(own(path)), f"{path.name} imports {name}"


def test_no_folder_has_too_many_modules() -> None:
    for folder in {path.parent for path in MODULES}:
        modules = [path for path in folder.glob("*.py") if not path.name.startswith("__")]
        assert len(modules) <= ROOM_MODULES, f"{folder.relative_to(PACKAGE)}: open a room inside"


def test_there_are_no_circular_imports() -> None:
    names = {".".join(("facemask_train", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}

    def taken(path: Path) -> set[str]:
        """Return the modules of ours that a file imports, those of a package by `from package import module` too."""
        found = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        parts = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        return {name for name in found | parts if name in names}

    order = TopologicalSorter({name: taken(path) for name, path in names.items()})
    assert list(order.static_order()), "a CycleError names the circle"


def test_functions_and_modules_are_short() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= MODULE_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0] if own(path) == "cli" else node  # a command's signature is its options
                assert (node.end_lineno or 0) - first.lineno < FUNCTION_LINES, f"{path.name}: {node.name}"


def test_only_listed_modules_read_the_environment() -> None:
    who = {str(path.relative_to(PACKAGE)) for path in MODULES if "os.environ" in path.read_text(encoding="utf-8")}
    assert who == ENVIRONMENT
    assert not [path.name for path in MODULES if "getenv" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_stays_on_its_layer_and_only_the_command_line_prints(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if own(path) not in ABOVE:
        assert not [name for name in imports(path) if name.split(".")[0] in HEAVY]
    if own(path) != "cli" and path.name != "wandb_process.py":
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert not {"print", "input", "exit", "quit"} & set(calls)
        assert "sys.exit" not in text


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_has_a_docstring(path: Path) -> None:
    assert (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()


def imported(*arguments: str) -> set[str]:
    """Return the names of the modules that Python imports to run something."""
    command = [sys.executable, "-X", "importtime", *arguments]
    timings = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    rows = [line.rpartition("|") for line in timings.splitlines() if line.startswith("import time:")]
    return {name.strip() for _, _, name in rows[1:]}  # the first row is the heading


@pytest.mark.parametrize(
    "command", [["-m", "facemask_train", "--help"], [str(Path(sys.executable).with_name("fmask")), "--help"]]
)
def test_help_imports_little(command: list[str]) -> None:
    """How long it takes depends on the machine; what it imports does not."""
    modules = imported(*command) - imported("-c", "pass")
    packages = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    packages -= {
        "org",
        *(name for name in packages if name.startswith("__editable__")),
    }  # `copy` looks for Jython's org
    assert "facemask_train" in packages
    assert packages <= {"facemask_train", "typer", "shellingham", "annotated_doc"}
    ours = {name for name in modules if name.startswith("facemask_train.") and room(name) != "cli"}
    assert ours <= {"facemask_train.core", "facemask_train.core.errors", "facemask_train.core.dist_env"}
    assert len(modules) <= 200, "the standard library's count too"
