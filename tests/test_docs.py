"""The site: the reference is what the code says, every page is built, and every tutorial runs as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType

import pytest

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"
LAYOUTS = {"andrewmvd": "voc", "aditya276": "yolo-beside", "karm1a": "darknet"}
"""The published sets, and the layout of the built-in sample that stands in for each."""

SMALL = """
weights: yolov5n.yaml
epochs: 1
imgsz: 64
batch: 16
device: cpu
workers: 0
extra: {mosaic: 0.0}
"""


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "settings.md"])
def test_the_reference_is_what_the_code_says(name: str) -> None:
    made = reference().PAGES[name]()
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == made, "the page has drifted: make reference"


def test_every_key_says_what_it_does() -> None:
    assert "| None |" not in reference().settings()


def test_every_page_is_built_and_no_link_leads_nowhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPO, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(
        r'(?:src|href)="https?://(?!squidfunk\.github\.io/mkdocs-material/")[^"]*\.(?:js|css|woff2?)', page
    )


def commands(page: str) -> list[list[str]]:
    """Return what a page tells to type: the lines of its `sh` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def listings(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def run(page: str, root: Path, instead: Mapping[str, str] = MappingProxyType({})) -> None:
    """Type a page's commands in a folder, one after the other, in a home that is empty.

    Args:
        instead: what is typed for a command that needs an account.
    """
    home = root / "home"
    home.mkdir()
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("KAGGLE", "WANDB_API"))}
    env = {**keep, "HOME": str(home), "WANDB_MODE": "offline"}
    for said in commands(page):
        typed = shlex.split(instead.get(shlex.join(said), shlex.join(said)))
        assert typed[0] == "fmask"
        command = [sys.executable, "-m", "facemask_train", *typed[1:]]
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(typed)}\n{done.stderr[-3000:]}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to work in that is as small a machine's: one epoch, 64 pixels."""
    (tmp_path / "configs" / "ensembles").mkdir(parents=True)
    (tmp_path / "configs" / "train.yaml").write_text(SMALL)
    return tmp_path


@pytest.mark.slow
def test_the_first_steps_run_as_they_stand(root: Path) -> None:
    run("first-steps.md", root)


@pytest.mark.slow
def test_the_kaggle_tutorial_runs_as_it_stands(root: Path) -> None:
    from facemask_train.config import read_sources
    from facemask_train.sources.sample import write_archive

    (root / "Downloads").mkdir()
    for name, layout in LAYOUTS.items():
        write_archive(layout, root / "Downloads" / read_sources(root)[name].archive_name)  # type: ignore[arg-type]
    run("kaggle.md", root, instead={"fmask fetch": "fmask fetch --from Downloads"})


@pytest.mark.slow
def test_the_tutorial_on_own_data_runs_as_it_stands(root: Path) -> None:
    from facemask_train.sources.sample import write_archive

    source, recipe = listings("own-data.md")
    (root / "configs" / "sources.yaml").write_text(source)
    (root / "configs" / "ensembles" / "clinic.yaml").write_text(recipe)
    write_archive("voc", root / "plain.zip")
    shutil.unpack_archive(root / "plain.zip", root / "plain")
    for path in sorted((root / "plain").rglob("*.xml")):
        text = path.read_text(encoding="utf-8").replace("without_mask", "sin mascarilla")
        text = text.replace("mask_weared_incorrect", "mal puesta").replace("with_mask", "mascarilla")
        path.write_text(text, encoding="utf-8")
    shutil.make_archive(str(root / "clinic"), "zip", root / "plain")
    run("own-data.md", root)
