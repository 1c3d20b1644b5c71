"""The site: the reference pages match the code, every page is built, and the commands of every tutorial run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
DOCS = REPO / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
LAYOUTS = {"andrewmvd": "voc", "aditya276": "yolo-beside", "karm1a": "darknet"}
"""The published datasets, and the layout of the built-in sample that replaces each."""

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
def test_the_reference_pages_match_the_code(name: str) -> None:
    made = reference().PAGES[name]()
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == made, "the page has drifted: make reference"


def test_every_key_has_a_description() -> None:
    assert "| None |" not in reference().settings()


def site(project: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a project as `make docs` does."""
    options = re.findall(r"mkdocs (build.*)", (REPO / "Makefile").read_text(encoding="utf-8"))[0].split()
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *options, "--site-dir", str(target)],
        cwd=project, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("link", ["nowhere.md", "numbers.md#nowhere"])
def test_a_broken_link_fails_the_build(tmp_path: Path, link: str) -> None:
    shutil.copy(REPO / "mkdocs.yml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    with (tmp_path / "docs" / "limits.md").open("a", encoding="utf-8") as page:
        page.write(f"\n[there]({link})\n")
    assert site(tmp_path, tmp_path / "site").returncode != 0


def test_every_page_is_built_and_no_link_is_broken(tmp_path: Path) -> None:
    done = site(REPO, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(
        r'(?:src|href)="https?://(?!squidfunk\.github\.io/mkdocs-material/")[^"]*\.(?:js|css|woff2?)', page
    )


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "bench/README.md"])
def test_no_link_outside_the_site_is_broken(name: str) -> None:
    page = (REPO / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", page)
    for link in (found for pair in links for found in pair if found and "://" not in found):
        path, _, anchor = link.partition("#")
        target = (REPO / name).parent / path if path else REPO / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def bench_result(name: str) -> Any:
    return json.loads((REPO / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def prose(name: str) -> str:
    return " ".join((REPO / name).read_text(encoding="utf-8").split())


def test_the_leaks_of_random_splits_are_as_measured() -> None:
    splits = bench_result("duplicates")["splits"]
    val, test = (splits["20 random splits of the same records, copies included"][part] for part in ("val", "test"))
    built = splits["as built"]
    assert (
        f"{percent(val['mean share'])} % of the val images and {percent(test['mean share'])} % of the test images"
        in prose("docs/versions.md")
    )
    assert (
        f"{built['val']['near']} of {built['val']['images']} and {built['test']['near']} of {built['test']['images']}"
        in prose("docs/versions.md")
    )
    row = " | ".join(
        f"{percent(part['mean share'])} % ({percent(part['lowest'])} to {percent(part['highest'])})"
        for part in (val, test)
    )
    assert row in prose("bench/README.md")
    crop = bench_result("duplicates")["copies"]["cropped by 5 % a side (beyond the requirement)"]
    found = f"of {crop['planted']} planted copies cropped by up to 5 % a side, it found {crop['same']}"
    assert found in prose("docs/versions.md")


@pytest.mark.parametrize("recipe", ["v5", "v8"])
def test_the_shortcut_rates_are_given_by_class(recipe: str) -> None:
    def cell(rate: Any) -> str:
        if not rate["measurable"]:
            return f"not measurable, n = {rate['n']}"
        low, high = map(percent, rate["interval"])
        return f"{percent(rate['rate'])} % ({low} to {high}), n = {rate['n']}"

    by_class = bench_result("v5_against_v8")["models"][recipe]["shortcut_rate_by_class"]
    (row,) = [
        line for line in (REPO / "README.md").read_text().splitlines() if line.startswith(f"| {recipe}-like data")
    ]
    assert row.endswith(f"| {cell(by_class['mask'])} | {cell(by_class['no_mask'])} |")


def test_the_excesses_of_drawn_faces_are_those_that_were_measured() -> None:
    found = bench_result("shortcut_models")
    planted = [found["bare_excess_less_balanced"][name] for name in ("two-toned", "cap", "close-up")]
    low, high = (percent(choose(one["difference"] for one in planted)) for choose in (min, max))
    assert f"exceed one without by {low} to {high} points" in prose("README.md")
    assert all(one["interval"][0] > 0 for one in planted), "as the page says: clearly larger"
    page = prose("docs/numbers.md")
    for model in found["models"].values():
        excess = model["bare_faces"]
        bounds = " to ".join(map(percent, excess["excess_interval"]))
        assert f"| {percent(model['map50'])} | {percent(excess['excess'])} ({bounds}), n = {excess['faces']} |" in page
    for one in planted:
        assert f"| +{percent(one['difference'])} (" in page


def test_the_coverage_of_intervals_is_that_which_was_measured() -> None:
    page, summary = prose("docs/numbers.md"), bench_result("coverage")["summary"]
    for by_size in summary.values():
        for one in by_size.values():
            for part in ("headline", "slices"):
                assert f"{percent(one[f'{part}, mean'])} ({percent(one[f'{part}, lowest'])})" in page
    for one in bench_result("comparisons")["differences_found"].values():
        assert f"{percent(one['100']['any'])} %" in page


def test_the_coverage_of_surveys_is_as_measured() -> None:
    found = bench_result("survey")
    lowest: dict[str, float] = {}
    for row in found["rows"]:
        held = row["coverage"]["corrected"]
        lowest[row["under"]] = min(held, lowest.get(row["under"], held))
    without = lowest.pop("")
    text = prose("docs/using.md")
    assert f"at least {100 * without:.0f} % of the time in each of {found['cells']} cells without shift" in text
    assert len(lowest) == 4
    assert f"the lowest cell had {percent(min(lowest.values()))} %" in text


def test_the_citation_has_this_version() -> None:
    import yaml

    from facemask_train import __version__

    cited = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "title", "message", "authors", "version", "license"} <= set(cited)
    assert (cited["cff-version"], cited["version"]) == ("1.2.0", __version__)
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["license"], cited["keywords"]) == (project["license"], project["keywords"])
    assert f"## {__version__}" in (REPO / "CHANGELOG.md").read_text(encoding="utf-8")


def text(page: str) -> str:
    return ((REPO if page == "README.md" else DOCS) / page).read_text(encoding="utf-8")


def blocks(page: str, kind: str = "sh", section: str = "") -> list[str]:
    """Return the fenced blocks of a kind on a page, or in one section of it."""
    found = text(page)
    if section:
        found = found.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        assert found, section
    return re.findall(rf"^```{kind}\n(.*?)^```", found, flags=re.MULTILINE | re.DOTALL)


def spans(page: str) -> Iterator[str]:
    """Yield the commands that a page has in its text: from `fmask` on, in code."""
    prose = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(span.split()) for span in re.findall(r"`(fmask [^`]+)`", prose))


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_plain_blocks_have_no_fmask_commands(page: str) -> None:
    plain = "".join(blocks(page, kind=""))
    assert not re.search(r"^(?:\w+=\S+ )?fmask |facemask_train", plain, flags=re.MULTILINE), (
        "write ```sh: a test runs it"
    )


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_commands_in_the_text_exist(page: str) -> None:
    import typer

    from facemask_train.cli.app import app

    known = typer.main.get_command(app)
    for command_line in spans(page):
        name, *rest = shlex.split(command_line)[1:]
        command = known if name.startswith("-") else known.commands[name]  # type: ignore[attr-defined]
        options = {"--help", *(option for one in command.params for option in one.opts)}
        assert not [one for one in (name, *rest) if one.startswith("--") and one not in options], command_line


def test_every_command_of_the_readme_is_run_by_a_tutorial() -> None:
    def lines(page: str) -> set[str]:
        typed = "".join(blocks(page)).replace("\\\n", "").splitlines()
        return {shlex.join(shlex.split(line, comments=True)) for line in typed}

    assert lines("README.md") <= set().union(*map(lines, PAGES))


def run(page: str, root: Path, section: str = "", instead: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run the blocks of a page in a shell, one after the other, with an empty home folder, and return the output.

    Args:
        instead: replacements for what this machine does not have: an account, GPUs, a cluster.
    """
    script = "".join(blocks(page, section=section))
    assert script
    for documented, typed in instead.items():
        assert documented in script, documented
        script = script.replace(documented, typed)
    return in_shell(root, script)


def in_shell(root: Path, script: str) -> str:
    home = root / "home"
    home.mkdir(exist_ok=True)
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("KAGGLE", "WANDB_API"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{keep['PATH']}"
    env = {**keep, "HOME": str(home), "WANDB_MODE": "offline", "PATH": path}
    script += "true\n"  # otherwise the last command replaces the shell, and then detects none
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def small(root: Path) -> Path:
    """Create a project folder whose training settings suit a small machine: one epoch, 64 pixels."""
    (root / "configs" / "ensembles").mkdir(parents=True)
    for name in ("train", "train-sample"):
        (root / "configs" / f"{name}.yaml").write_text(SMALL)
    return root


def download(root: Path, *names: str) -> None:
    from facemask_train.core.config import read_sources
    from facemask_train.sources.sample.archives import write_archive

    (root / "Downloads").mkdir()
    for name in names:
        write_archive(LAYOUTS[name], root / "whole.zip")  # type: ignore[arg-type]
        thin(root / "whole.zip", root / "Downloads" / read_sources(root)[name].archive_name)


def thin(whole: Path, part: Path) -> None:
    """Write an archive with a quarter of the images of another, and their labels."""
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(part, "w") as target:
        stems = {Path(name).stem for name in source.namelist() if Path(name).suffix in {".jpg", ".png", ".jpeg"}}
        out = {stem for stem in stems if zlib.crc32(stem.encode()) % 4}
        for name in source.namelist():
            if Path(name).stem not in out:
                target.writestr(name, source.read(name))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the first steps were run."""
    root = small(tmp_path_factory.mktemp("first"))
    run("first-steps.md", root)
    return root


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the four commands were run, on replacements for the three datasets."""
    root = small(tmp_path_factory.mktemp("kaggle"))
    download(root, *LAYOUTS)
    run("kaggle.md", root, "The four commands", instead={"fmask fetch\n": "fmask fetch --from Downloads\n"})
    return root


@pytest.mark.slow
def test_the_first_steps_run(walked: Path) -> None:
    assert (walked / "runs/first/evaluation/sample-test/report.html").is_file()


@pytest.mark.slow
def test_the_kaggle_tutorial_runs(kaggle: Path) -> None:
    assert (kaggle / "runs/taste/run.json").is_file()
    output = run("kaggle.md", kaggle, "Compare two versions")
    assert "on-v5" in output
    assert (kaggle / "runs/on-v8/evaluation/v5-test/metrics.json").is_file()


@pytest.mark.slow
def test_the_page_on_training_runs(kaggle: Path) -> None:
    output = run("training.md", kaggle, instead={"v8-yolov5s": "v8-yolov5n", "fmask train --resume\n": CUT})
    assert "run cut: 3 epochs" in output


CUT = """
fmask train --name cut --epochs 3 --tracker none &
until [ -s runs/cut/weights/last.pt ]; do sleep 0.1; kill -0 $!; done
kill -KILL $!
wait $! || [ $? = 137 ]
fmask train --resume
"""
"""A run that was killed after its first epoch."""


@pytest.mark.slow
def test_an_unavailable_source_is_left_out(tmp_path: Path) -> None:
    download(tmp_path, "andrewmvd", "aditya276")
    run(
        "kaggle.md",
        tmp_path,
        "If a source is not available",
        instead={"fmask fetch andrewmvd aditya276": "fmask fetch andrewmvd aditya276 --from Downloads"},
    )
    assert (tmp_path / "data/ensembles/v8-without-karm1a/ensemble.json").is_file()


@pytest.mark.slow
def test_the_page_on_versions_runs(kaggle: Path) -> None:
    run("versions.md", kaggle)
    assert len(list((kaggle / "data/inspect").iterdir())) >= 2


@pytest.mark.slow
def test_the_page_on_many_devices_runs(kaggle: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"--nnodes 2 --nproc-per-node 4": "--nnodes 1 --nproc-per-node 2", "HOST0": "127.0.0.1"}
    here |= {"29500": str(port), "/shared/fmask": str(kaggle), "--data v8": "--data v8 --device cpu"}
    here |= {"--device 0,1,2,3": "--device cpu,cpu"}
    run("many-machines.md", kaggle, "Training on several GPUs", instead=here)


@pytest.mark.slow
def test_the_page_on_clusters_runs(kaggle: Path) -> None:
    pytest.importorskip("ray")
    started = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=-1, stdout=-1, text=True)
    try:
        assert started.stdout is not None
        address = started.stdout.readline().strip()
        run("many-machines.md", kaggle, "Building on a cluster", instead={"HOST:PORT": address})
    finally:
        started.communicate("", timeout=60)


CLUSTER = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(cluster.address, flush=True)
input()
"""


@pytest.mark.slow
def test_the_page_on_numbers_runs(walked: Path) -> None:
    batmans = walked / "batmans"
    batmans.mkdir()
    first = min((walked / "data/ensembles/sample/images/test").iterdir())
    shutil.copy(first, batmans)
    (batmans / "probe.csv").write_text(f"image,should_be\n{first.name},no_mask\n")
    unmet = {'"bare_excess<=0.5"': '"bare_excess<=0.5" || [ $? = 9 ]'}  # two epochs are not enough
    run("numbers.md", walked, instead={"FOLDER": "batmans", **unmet})
    assert list(walked.glob("runs/first/**/probe.csv"))


@pytest.mark.slow
def test_the_page_on_use_runs(tmp_path: Path) -> None:
    from helpers import shapes
    from helpers.runs import make_run

    root = small(tmp_path)
    ensemble = shapes.draw_ensemble(root, counts=(2, 16, 40))
    images = sorted((ensemble / "images/test").iterdir())
    make_run(root, ensemble, "first")  # like a run of `fmask train --name first` that has learned
    for folder in ("home/images", "market", "clips"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        shutil.copy(image, root / "market" / f"{number % 2}-{number}.jpg")
        shutil.copy(image, root / "home/images")
    (root / "places.csv").write_text("file,place,time\n0-*,gate,2026-11-25 08\n1-*,hall,2026-11-26 09\n")
    for clip in ("gate.mp4", "clips/a.mp4"):
        video(root / clip, images)
    run("using.md", root, instead={"fmask demo\n": SERVED})
    surveys = list(root.glob("runs/first/**/survey.csv"))
    assert len(surveys) == 2
    assert all(len(path.read_text(encoding="utf-8").splitlines()) > 1 for path in surveys)
    assert (root / "runs/first/export/first.onnx").is_file()
    assert (root / "space/app.py").is_file()


SERVED = """
fmask demo --port 0 --json > site.json &
until [ -s site.json ]; do sleep 0.2; kill -0 $!; done
kill -TERM $!
wait $!
"""
"""Stops the demo as a user would; any free port, in case another demo is running."""


def video(path: Path, images: list[Path]) -> None:
    """Write a video that shows an image a second."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1, (320, 240))
    for image in images:
        writer.write(cv2.resize(cv2.imread(str(image)), (320, 240)))
    writer.release()


@pytest.mark.slow
def test_the_tutorial_on_own_data_runs(tmp_path: Path) -> None:
    from facemask_train.sources.sample.archives import write_archive

    root = small(tmp_path)
    source, recipe = blocks("own-data.md", kind="yaml")
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
