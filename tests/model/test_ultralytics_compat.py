"""The adapter to `ultralytics`: which versions it accepts, and which parts of the package fmask relies on.

fmask overrides private methods, so an upgrade may break it without a single error. The digests in
`ultralytics_bodies.txt` are of the source of each function that fmask replaces, calls through a private name, or
depends on in its details. After an upgrade that changes one: read what changed, adapt fmask, then write the file
again with `python tests/model/test_ultralytics_compat.py`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import facemask_train
from facemask_train.core.errors import UsageError
from facemask_train.model import ultralytics_compat
from facemask_train.model.ultralytics_compat import TESTED, check_version, open_ultralytics

PACKAGE = Path(facemask_train.__file__).parent
BODIES = Path(__file__).with_name("ultralytics_bodies.txt")
TRAINER = "ultralytics.models.yolo.detect:DetectionTrainer"
VALIDATOR = "ultralytics.models.yolo.detect:DetectionValidator"


def listed() -> dict[str, str]:
    """Return the digest of each function, by `module:qualified name`."""
    rows = [line.split() for line in BODIES.read_text(encoding="utf-8").splitlines()]
    return {name: digest for digest, name in rows}


def find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    return getattr(found, "__func__", found)


def source(name: str) -> str:
    """Return a function's source: the package's own, also where the door has put another in its place."""
    found = find(name)
    if found.__module__.startswith("ultralytics"):
        return textwrap.dedent(inspect.getsource(found))
    module, _, function = name.partition(":")
    text = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    (node,) = [one for one in ast.parse(text).body if isinstance(one, ast.FunctionDef) and one.name == function]
    return ast.get_source_segment(text, node) or ""


def digest(name: str) -> str:
    """Return a digest of a function's source; indentation and white space at line ends do not count."""
    lines = source(name).splitlines()
    return hashlib.sha256("\n".join(line.rstrip() for line in lines).encode()).hexdigest()[:16]


def methods(owner: str) -> set[str]:
    """Return the methods of a class and of its bases in the package."""
    cls = find(owner)
    return {name for name in dir(cls) if not name.startswith("__") and inspect.isfunction(getattr(cls, name))}


def used() -> set[str]:
    """Return every name that `model/` and `training/` define or look up with a dot."""
    found = set()
    for room in ("model", "training"):
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.FunctionDef):
                    found.add(node.name)
    return found


@pytest.fixture(autouse=True)
def opened() -> None:
    open_ultralytics()


def test_nothing_that_fmask_relies_on_has_changed() -> None:
    expected = listed()
    assert len(expected) > 40
    changed = {name: found for name in expected if (found := digest(name)) != expected[name]}
    assert not changed, f"ultralytics changed what fmask overrides or relies on: {', '.join(changed)}"


def test_every_method_that_fmask_overrides_or_calls_is_checked() -> None:
    trainer, validator = methods(TRAINER), methods(VALIDATOR)
    names = used()
    assert {"_do_train", "save_model", "_setup_ddp"} <= trainer & names
    assert {"update_metrics", "_prepare_batch"} <= validator & names
    wanted = {f"{TRAINER}.{name}" for name in trainer & names}
    wanted |= {f"{VALIDATOR}.{name}" for name in (validator & names) - trainer}
    assert wanted <= set(listed())


@pytest.mark.parametrize("found", ["8.4.189", "8.4.191", "8.5.0", "9.0", "8.4", "8.4.190.1"])
def test_another_version_is_refused(found: str) -> None:
    assert TESTED == ("8.4.190", "8.4.190"), "then other versions are refused"
    with pytest.raises(UsageError) as caught:
        check_version(found)
    assert str(caught.value) == f"ultralytics {found}: expected version 8.4.190, the one that fmask is tested with"
    assert caught.value.next_step == "pip install 'ultralytics-opencv-headless==8.4.190'"


def test_a_range_is_named_with_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ultralytics_compat, "TESTED", ("8.4.190", "8.5.2"))
    for good in ("8.4.190", "8.4.200", "8.5.0", "8.5.2"):
        check_version(good)
    with pytest.raises(UsageError, match=r"expected version 8\.4\.190 to 8\.5\.2, those that") as caught:
        check_version("8.5.10")
    assert caught.value.next_step == "pip install 'ultralytics-opencv-headless==8.5.2'"


def test_opening_the_package_checks_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ultralytics()
    import ultralytics

    monkeypatch.setattr(ultralytics, "__version__", "9.9.9")
    with pytest.raises(UsageError, match=r"ultralytics 9\.9\.9"):
        open_ultralytics()


def test_the_dependency_and_the_check_have_the_same_range() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bounds,) = [
        one.specifier for one in map(Requirement, project["dependencies"]) if one.name == "ultralytics-opencv-headless"
    ]
    first, last = TESTED
    before, after = (
        f"{version.rpartition('.')[0]}.{int(version.rpartition('.')[2]) + step}"
        for version, step in ((first, -1), (last, 1))
    )
    assert (first in bounds, last in bounds, before in bounds, after in bounds) == (True, True, False, False)


if __name__ == "__main__":
    open_ultralytics()
    BODIES.write_text("".join(f"{digest(name)}  {name}\n" for name in sorted(listed())), encoding="utf-8")
