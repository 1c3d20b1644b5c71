"""Figures about the code: folders, modules, functions, types, tests, comments and dependencies.

    python bench/house.py NAME [CHECKOUT]    # adds them to bench/results/house.json under NAME

A function is a `def` or a method; its lines include its docstring and blank lines. The lines of a module are those that
are not blank. A comment is a `#` that is not for a tool; docstrings are counted separately. `__init__` and `__main__`
are not counted among the modules of a folder. A public name has no leading underscore.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parents[1] / "bench/results/house.json"
REPO = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else Path(__file__).parents[1]
FOR_TOOLS = re.compile(r"#\s*(type:|noqa|fmt:|pragma)")


def functions(tree: ast.Module) -> list[tuple[str, int]]:
    """Return the name and the lines of each function."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(one.type == tokenize.COMMENT and not FOR_TOOLS.match(one.string) for one in tokens)


def docstrings(tree: ast.Module) -> int:
    """Return the lines that docstrings take, of modules, classes, functions and (as bare strings) of constants."""
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return sum((one.end_lineno or one.lineno) - one.lineno + 1 for one in strings)


def spread(lengths: list[int]) -> dict[str, float]:
    return {
        "median": float(np.median(lengths)),
        "90 %": round(float(np.quantile(lengths, 0.9)), 1),
        "longest": max(lengths),
    }


def rooms(names: list[str]) -> dict[str, int]:
    """Return the modules in each folder."""
    plain = [Path(name) for name in names if not Path(name).stem.startswith("__")]
    return dict(sorted(Counter(str(path.parent).removeprefix("src/facemask_train") or "/" for path in plain).items()))


def importers(trees: dict[str, ast.Module]) -> Counter[str]:
    """Return how many modules import each module."""
    dotted = {name.removeprefix("src/").removesuffix(".py").replace("/", "."): name for name in trees}
    found: Counter[str] = Counter()
    for tree in trees.values():
        taken = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                taken |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        found.update(dotted[one] for one in taken if one in dotted)
    return found


def types(texts: dict[str, str], trees: dict[str, ast.Module]) -> dict[str, int]:
    """Count the types without information: `Any` as a name in annotations and elsewhere, and `dict[str, Any]`."""
    names = [node.id for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Name)]
    untyped = re.compile(r"(?:dict|Mapping)\[str, Any\]")
    return {"Any": names.count("Any"), "dict[str, Any]": sum(len(untyped.findall(text)) for text in texts.values())}


def public_names(trees: dict[str, ast.Module]) -> int:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tops = [node.name for tree in trees.values() for node in tree.body if isinstance(node, kinds)]
    return sum(not name.startswith("_") for name in tops)


def sources(folder: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [REPO / name for name in sorted(listed) if name.endswith(".py") and (REPO / name).is_file()]


def measure() -> dict[str, Any]:
    texts = {str(path.relative_to(REPO)): path.read_text(encoding="utf-8") for path in sources("src")}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    lengths = [(f"{name}:{one}", n) for name, tree in trees.items() for one, n in functions(tree)]
    lines = {name: sum(bool(line.strip()) for line in text.splitlines()) for name, text in texts.items()}
    tests = sum(bool(line.strip()) for path in sources("tests") for line in path.read_text().splitlines())
    total = sum(lines.values())
    needs = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    by = importers(trees)
    inside, small = rooms(list(texts)), [name for name in lines if by[name] == 1 and texts[name].count("\n") < 80]
    return {
        "modules": len(texts),
        "rooms": len(inside),
        "largest room": max(inside.values()),
        "modules a room": inside,
        "modules with one importer": sum(by[name] == 1 for name in lines if not Path(name).stem.startswith("__")),
        "of these under 80 lines": len([name for name in small if not Path(name).stem.startswith("__")]),
        "public names": public_names(trees),
        **types(texts, trees),
        "lines": total,
        "functions": {"count": len(lengths), **spread([n for _, n in lengths])},
        "longest functions": dict(sorted(lengths, key=lambda one: -one[1])[:8]),
        "lines per module": spread(list(lines.values())),
        "longest modules": dict(sorted(lines.items(), key=lambda one: -one[1])[:8]),
        "test lines per source line": round(tests / total, 2),
        "comments per 100 lines": round(100 * sum(map(comments, texts.values())) / total, 2),
        "docstring lines per 100 lines": round(100 * sum(map(docstrings, trees.values())) / total, 1),
        "runtime dependencies": len(needs["dependencies"]),
    }


def main() -> None:
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[sys.argv[1]] = found = measure()
    RESULT.write_text(json.dumps(known, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
