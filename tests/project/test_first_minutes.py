"""The first minutes: typical mistakes of a new user, and the message for each.

python tests/project/test_first_minutes.py       # prints them all as a table of Markdown
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import os
import pty
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import conftest  # noqa: F401 - an empty home folder and no keys, also if this file is run as a script
from facemask_train.cli.app import app
from facemask_train.core.config import TrainSettings
from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.build import build
from facemask_train.sources.fetch import fetch
from facemask_train.training.runs import RunRecord, TrainedOn
from helpers.untrained import write_model
from helpers.worlds import image, make_root, write

REPO = Path(__file__).parents[2]
TOKEN = {"KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "none"}
SHARES = "split: {train: 0.5, val: 0.25, test: 0.25}"
COLOR = re.compile(r"\x1b\[[\d;]*(?<!\d)(?:[349]\d|10\d)[\d;]*m")
CODE = re.compile(r"[^\n]*\x1b\[2K|\x1b\[[?\d;]*[A-Za-z]|\r")


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended, and what it wrote on standard error (and, outside of this process, on standard output)."""

    code: int
    text: str

    @property
    def message(self) -> str:
        return self._line(("error: ", "Error: ")) or self._lines[0]

    @property
    def next_step(self) -> str:
        return self._line(("next: ", "Try "))

    def _line(self, begins: tuple[str, ...]) -> str:
        return next((line for line in self._lines if line.startswith(begins)), "")

    @property
    def _lines(self) -> list[str]:
        return CODE.sub("", self.text).strip().splitlines()


# ---- how a command is given ----


def inside(way: Way) -> Result:
    """Give the command in this process, as if some packages were not installed."""
    version = importlib.metadata.version

    def installed(name: str) -> str:
        if name in way.absent:
            raise PackageNotFoundError(name)
        return version(name)

    captured = io.StringIO()
    with ExitStack() as stack:
        stack.callback(os.dup2, kept := os.dup(1), 1)  # a command sends descriptor 1 to standard error
        stack.enter_context(mock.patch.dict(os.environ, way.env))
        stack.enter_context(mock.patch.dict(sys.modules, dict.fromkeys(way.absent)))
        stack.enter_context(mock.patch("importlib.metadata.version", installed))
        stack.enter_context(redirect_stderr(captured))
        stack.enter_context(redirect_stdout(captured))
        ended = stack.enter_context(pytest.raises(SystemExit))
        app(shlex.split(way.typed)[1:], prog_name="fmask")
    os.close(kept)
    code = ended.value.code
    return Result(code if isinstance(code, int) else 0, captured.getvalue())


def offline(way: Way) -> Result:
    """Give the command where no name is known."""
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with mock.patch("socket.getaddrinfo", side_effect=unknown):
        return inside(way)


def command(typed: str) -> list[str]:
    return [sys.executable, "-m", "facemask_train", *shlex.split(typed)[1:]]


def environment(way: Way) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **way.env}


def outside(way: Way) -> Result:
    """Run the command in a separate process."""
    done = subprocess.run(
        command(way.typed), env=environment(way), capture_output=True, encoding="utf-8", check=False
    )  # fmt: skip
    return Result(done.returncode, done.stderr + done.stdout)


def on_a_terminal(way: Way) -> Result:
    """Give the command on a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command(way.typed), env=environment(way), stdin=follower, stdout=follower, stderr=follower
    )  # fmt: skip
    os.close(follower)
    found = io.BytesIO()
    while select.select([leader], [], [], 60)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        found.write(part)
        if not part:
            break
    os.close(leader)
    return Result(process.wait(), found.getvalue().decode().replace("\r\n", "\n"))


def interrupted(way: Way, *, at: str) -> Result:
    """Give the command, press Ctrl-C as soon as a file or folder is there, and see that the next try goes through."""
    with subprocess.Popen(command(way.typed), env=environment(way), stderr=subprocess.PIPE, text=True) as process:
        _wait_for(at, process)
        process.send_signal(signal.SIGINT)
        _, text = process.communicate()
    again = outside(way)
    assert again.code == 0, again.text
    return Result(process.returncode, text)


def twice_at_once(way: Way, *, at: str) -> Result:
    """Give the command, and again while it is at work (stopped, so that it cannot end before); the first goes on."""
    with subprocess.Popen(
        command(way.typed), env=environment(way), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as first:
        _wait_for(at, first)
        first.send_signal(signal.SIGSTOP)
        try:
            second = outside(way)
        finally:
            first.send_signal(signal.SIGCONT)
        _, text = first.communicate()
    assert first.returncode == 0, text
    return second


def _wait_for(glob: str, process: subprocess.Popen[str]) -> None:
    while not any(Path().glob(glob)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def on_a_disk(way: Way, *, options: str) -> Result:
    """Run the command in a folder `disk` that is a separate file system."""
    disk = Path("disk").resolve()
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        return inside(way)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def with_the_port_in_use(way: Way) -> Result:
    """Give the command while another program listens where it wants to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return inside(Way(way.what, way.typed.format(port=server.getsockname()[1]), way.code, way.says))


def with_an_old_python(way: Way) -> Result:
    """Give `make quickstart` with a Python that says it is 3.9, in a copy of what `make` reads."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPO / name, name)
    old = Path("python3.9")
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 9); exec(sys.argv[1])' \"$2\""
    )
    old.chmod(0o755)
    done = subprocess.run(shlex.split(way.typed), capture_output=True, text=True, check=False)
    assert not Path(".venv").exists()
    return Result(done.returncode, done.stderr)


# ---- the ways ----


@dataclass(frozen=True, slots=True)
class Way:
    """A wrong way to start.

    Attributes:
        what: in words.
        typed: the command line.
        code: the exit code; see `errors.py`.
        says: what the message has to hold: what was found, and what was expected.
        then: what the next step has to hold.
        world: start where sources are fetched, an ensemble is built, and a run is finished, not in an empty folder.
        files: what lies in the folder besides; a name that ends in / is an empty folder.
        env: variables of the environment.
        absent: packages that are not installed.
        given: how the command is given.
        slow: it takes seconds.
    """

    what: str
    typed: str
    code: int
    says: tuple[str, ...]
    then: str = "fmask"
    world: bool = False
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    given: Callable[[Way], Result] = inside
    slow: bool = False


def _archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("images/a.png", random.Random(0).randbytes(200_000))
    return stream.getvalue()


def _sources(entry: str) -> str:
    return f"sources:\n  clinic: {{{entry}}}\n"


OTHER = {"configs/ensembles/other.yaml": f"sources: [second]\n{SHARES}\n"}
CLINIC = f"sources: [clinic]\n{SHARES}\n"
GIVE_IT = "--from"
FIRST = (
    Way("nothing but the name", "fmask", 2, ("Data:", "fetch", "Start"), ""),
    Way("a typo in a command", "fmask fecth", 2, ("No such command 'fecth'", "Did you mean 'fetch'?")),
    Way("an option where a command belongs", "fmask --sample", 2, ("No such option: --sample",), "fmask --help"),
    Way("a typo in an option", "fmask fetch --form Downloads", 2, ("--form", "--from"), "fmask fetch --help"),
    Way("an argument too many", "fmask build-dataset 5 8", 2, ("(8)",), "fmask build-dataset --help"),
    Way("no version", "fmask inspect", 2, ("Missing argument 'ENSEMBLE'",), "fmask inspect --help"),
    Way("a negative number", "fmask train --epochs -5", 2, ("--epochs", "greater than or equal to 1"), "fmask train"),
    Way("words for a number", "fmask train --epochs ten", 2, ("--epochs", "valid integer"), "fmask train --help"),
    Way("two that exclude each other", "fmask pipeline --sample --version 5", 2, ("--sample and --version",),
        "leave one"),
)  # fmt: skip
SOURCES = (
    Way("a typo in a source", "fmask fetch andrewmwd", 2, ("'andrewmwd' (did you mean 'andrewmvd'?)",), "sources.yaml"),
    Way("no token", "fmask fetch andrewmvd", 5, ("no usable Kaggle token",), "kaggle.json"),
    Way("no network", "fmask fetch andrewmvd", 6, ("cannot be reached",), GIVE_IT, env=TOKEN, given=offline),
    Way("a wrong folder", "fmask fetch --from Downlods", 4, ("Downlods: no such file or folder",), "check the path"),
    Way("an empty folder", "fmask fetch --from Downloads", 4,
        ("Downloads: expected an archive under Kaggle's name (face-mask-detection.zip, ", "found nothing"),
        "use another folder", files={"Downloads/": ""}),
    Way("an archive with another name, in a folder", "fmask fetch --from Downloads", 4, ("found archive.zip",),
        "fmask fetch NAME --from Downloads/archive.zip", files={"Downloads/archive.zip": "?"}),
    Way("an archive with another name", "fmask fetch --from archive.zip", 2, ("expected one of Kaggle's",
        "archive.zip"),
        "fmask fetch NAME --from archive.zip", files={"archive.zip": "?"}),
    Way("the unpacked archive", "fmask fetch andrewmvd --from masks", 4, ("masks/face-mask-detection.zip",),
        "path: FOLDER",
        files={"masks/images/a.png": image(1, "PNG")}),
    Way("a zip that is none", "fmask fetch andrewmvd --from a.zip", 3, ("a.zip", "expected a .zip or a .tar"),
        "sound copy", files={"a.zip": "<html>Sign in</html>"}),
    Way("a zip that was cut short", "fmask fetch andrewmvd --from a.zip", 3, ("a.zip: it is truncated or damaged",),
        "sound copy", files={"a.zip": _archive()[:2000]}),
    Way("a broken yaml", "fmask fetch", 2, ("configs/sources.yaml: not valid yaml: line 2, column 1",), "fix the file",
        files={"configs/sources.yaml": "sources: [a\n"}),
    Way("a typo in a key of a yaml", "fmask fetch clinic", 2, ("clinic: unknown key 'pth' (did you mean 'path'?)",),
        "fix the file", files={"configs/sources.yaml": _sources("pth: here")}),
    Way("an unknown format", "fmask fetch clinic", 2, ("format: ", "'yolo'", "found 'yolov8' (did you mean 'yolo'?)"),
        "fix the file", files={"configs/sources.yaml": _sources("path: here, format: yolov8")}),
    Way("a source whose folder is not there", "fmask fetch clinic", 4, ("images: no such file or folder",),
        "fix the path of 'clinic'", files={"configs/sources.yaml": _sources("path: images")}),
    Way("an empty data folder", "fmask fetch clinic", 3, ("images: it holds no files",), "sound copy",
        files={"configs/sources.yaml": _sources("path: images"), "images/": ""}),
    Way("no name, where all sources are one's own", "fmask fetch", 2, ("expected the name of a source, found none",),
        "fmask fetch clinic",
        files={"configs/sources.yaml": _sources("path: images"), "images/": ""}),
)  # fmt: skip
ENSEMBLES = (
    Way("no data", "fmask build-dataset --version 5", 4, ("expected the sources of v5 to be fetched",),
        "fmask fetch andrewmvd aditya276"),
    Way("a typo in a version", "fmask build-dataset --version sampel", 4, ("(did you mean 'sample'?)",), "v8"),
    Way("a version that nobody wrote", "fmask build-dataset --version 6", 4, ("configs/ensembles/v6.yaml: no such",),
        "v5"),
    Way("a folder where only labels are", "fmask build-dataset --version clinic", 3, ("expected images, found none",),
        "check what is in this source's archive", files={"only/a.txt": "0 0.5 0.5 0.1 0.1\n"}),
    Way("classes without names", "fmask build-dataset --version clinic", 3, ("found no names file (0: 1 boxes)",),
        "--class-map 'clinic=0:?' (mask, no_mask", files={"only/a.txt": "0 0.5 0.5 0.1 0.1\n", "only/a.jpg": image(1)}),
    Way("a class that fmask does not have", "fmask build-dataset --class-map karm1a=0:masked", 2, ("karm1a=0:masked",),
        "--class-map karm1a=0:mask,1:no_mask"),
    Way("an ensemble before it is built", "fmask inspect 5", 4, ("5: no finished ensemble",),
        "fmask build-dataset --version 5"),
    Way("a typo in an ensemble", "fmask train --data tinny", 4, ("(did you mean 'tiny'?)",), "fmask build", world=True),
)  # fmt: skip
MODELS = (
    Way("training before anything else", "fmask train", 4, ("no ensemble has been built",), "fmask pipeline --sample"),
    Way("a typo in a setting", "fmask train --set lr=0.1", 2, ("(did you mean 'lr0'?)",), "lr0", world=True),
    Way("a typo in a setting's value", "fmask train --set optimizer=Adamm", 2, ("optimizer", "(did you mean 'Adam'?)"),
        "fix the option"),
    Way("a key of a yaml that has no value of its kind", "fmask train --config mine", 2, ("mine.yaml: extra:",
        "found 3"),
        "fix the file", files={"configs/mine.yaml": "extra: 3\n"}),
    Way("a run's name with a space", "fmask train --name 'my run'", 2, ("--name 'my run': expected letters",),
        "another",
        world=True),
    Way("a GPU that is not there", "fmask train --device 7", 2, ("--device 7: torch finds",), "--device cpu",
        world=True),
    Way("a device that is none", "fmask predict face.jpg --device gpu", 2,
        ("--device gpu: expected cpu or a GPU's number",),
        "--device cpu", world=True, files={"face.jpg": image(1)}),
    Way("a typo in a checkpoint", "fmask train --weights yolov5z.pt", 4, ("(did you mean 'yolov5n.pt'?)",), "--weights",
        world=True),
    Way("a checkpoint that cannot be downloaded", "fmask train", 6, ("yolov5su.pt: the download failed",),
        "--weights PATH", world=True, given=offline),
    Way("weights that are no checkpoint", "fmask train --weights mine.pt", 3, ("expected a detector's checkpoint",),
        "weights/best.pt", world=True, files={"mine.pt": "?"}),
    Way("nothing to resume", "fmask train --resume", 4, ("runs: there is no started run",), "fmask train"),
    Way("a run that is not there", "fmask evaluate tiny-yolov5m", 4, ("(did you mean 'tiny-yolov5n'?)",), "one of them",
        world=True),
    Way("a run's path for its name", "fmask evaluate runs/tiny-yolov5n", 4, ("(did you mean 'tiny-yolov5n'?)",),
        "one of them", world=True),
    Way("a typo in a split", "fmask evaluate --split tset", 2, ("--split", "'tset' is not", "(did you mean 'test'?)"),
        "fmask evaluate --help",
        world=True),
    Way("a typo in a metric", "fmask evaluate --fail-unless map51>=0.9", 2, ("(did you mean 'map50'?)",), "map50"),
)  # fmt: skip
USES = (
    Way("predict before training", "fmask predict face.jpg", 4, ("runs: there is no finished run",), "fmask train"),
    Way("predict of nothing", "fmask predict", 2, ("Missing argument 'SOURCE'",), "fmask predict --help"),
    Way("predict of a folder without images", "fmask predict notes", 4, ("notes: no images or videos",),
        "check the path", world=True, files={"notes/a.txt": "?"}),
    Way("predict of a web address", "fmask predict https://example.org/a.jpg", 4, ("no such file or folder",),
        "download web addresses", world=True),
    Way("predict of images that none can read", "fmask predict album", 3, ("found 1 file, none of them readable",),
        "JPEG, PNG", world=True, files={"album/a.jpg": "?"}),
    Way("a video that is none", "fmask predict a.mp4", 3, ("a.mp4: not a video",), "mp4", world=True,
        files={"a.mp4": "?"}),
    Way("a file where results go", "fmask predict face.jpg --out notes.txt", 2, ("notes.txt: expected a folder",),
        "another --out", world=True, files={"face.jpg": image(1), "notes.txt": "mine"}),
    Way("results over other files", "fmask predict face.jpg --out notes", 2, ("notes: already contains other files",),
        "another --output", world=True, files={"face.jpg": image(1), "notes/mine.txt": "mine"}),
    Way("a percentage for a share", "fmask predict face.jpg --confidence 50", 2, ("--confidence", "than or equal to 1"),
        "fmask predict --help", world=True),
    Way("a wrong date for a survey", "fmask survey clip.mp4 --start yesterday", 2,
        ("expected a date or a time, found 'yesterday'",),
        "2026-11-25"),
    Way("a survey before an evaluation", "fmask survey face.jpg", 4, ("a survey needs an evaluation of these weights",),
        "fmask evaluate tiny-yolov5n", world=True, files={"face.jpg": image(1)}),
    Way("a demo whose port is in use", "fmask demo --port {port}", 2, (": already in use",),
        "fmask demo --port", world=True, given=with_the_port_in_use),
    Way("a demo without its packages", "fmask demo --port 0", 4, ("Gradio, which is not installed",),
        "pip install 'facemask-train[demo]'", world=True, absent=("gradio",)),
    Way("an export without its packages", "fmask export", 4, ("onnx, which is not installed",),
        "pip install 'facemask-train[export]'", world=True, absent=("onnx",)),
    Way("a typo in an export's format", "fmask export --format onx", 2, ("'onx' is not", "(did you mean 'onnx'?)"),
        "fmask export --help"),
)  # fmt: skip
MACHINES = (
    Way("a full disk", "fmask fetch andrewmvd --from a.zip --root disk", 7, ("MB are needed", "are free on this disk"),
        "free some space", given=functools.partial(on_a_disk, options="size=64k"), files={"a.zip": _archive()}),
    Way("a disk that is filled by the sample", "fmask fetch sample-voc --root disk", 7, ("the disk is full",),
        "free some space", given=functools.partial(on_a_disk, options="size=400k"), slow=True),
    Way("a read-only folder", "fmask fetch sample-voc --root disk", 7, ("disk/data: this folder cannot be written",),
        "make it writable", given=functools.partial(on_a_disk, options="ro")),
    Way("a file where a folder belongs", "fmask fetch sample-voc", 7, ("data/raw: expected a folder here or above",),
        "move the file away", files={"data": "?"}),
    Way("the same command twice at once", "fmask fetch sample-voc", 7,
        ("data/raw/sample-voc: another fmask command is using this folder",), "wait until it has finished",
        given=functools.partial(twice_at_once, at="data/raw/.downloads/sample-voc/*"), slow=True),
    Way("Ctrl-C in the first fetch", "fmask fetch sample-voc", 130, ("interrupted",), "run the same command again",
        given=functools.partial(interrupted, at="data/raw/.downloads/sample-voc/*"), slow=True),
    Way("Ctrl-C in the first build", "fmask build-dataset --version other", 130, ("interrupted",), "same command again",
        world=True, given=functools.partial(interrupted, at="data/ensembles/.other.lock"), slow=True,
        files=OTHER),
    Way("an old Python", "make quickstart PYTHON=./python3.9", 2, ("fmask needs Python 3.11 or newer",), "",
        given=with_an_old_python),
    Way("a terminal of 40 columns", "fmask build-dataset --version tiny", 0,
        ("first, images; total: 8; kept: 8;", "all boxes; total: 32;"), "",
        world=True, given=outside, env={"COLUMNS": "40"}),
    Way("a terminal without color", "fmask build-dataset --version other --workers 1", 0, ("all boxes",), "",
        world=True, given=on_a_terminal, env={"NO_COLOR": "1", "TERM": "xterm"}, files=OTHER, slow=True),
    Way("a terminal without Unicode", "fmask fetch --from 'Bücher 😷'", 4, (r"B\xfccher \U0001f637: no such file",),
        "check the path", given=outside, env={"PYTHONIOENCODING": "ascii"}),
    Way("a path with spaces and emoji", "fmask fetch andrewmvd --from 'Mes images 😷'", 4,
        ("Mes images 😷/face-mask-detection.zip: no such file",), GIVE_IT, files={"Mes images 😷/": ""}),
)  # fmt: skip
WAYS = (*FIRST, *SOURCES, *ENSEMBLES, *MODELS, *USES, *MACHINES)


# ---- where they start ----


def make_world(root: Path, weights: Path) -> Path:
    """Write a folder where sources are fetched, an ensemble is built, and a run is finished."""
    make_root(root)
    fetch(root, ["first", "second"])
    card = build(root, "tiny", pool=WorkerPool(workers=1)).card
    run = root / "runs" / "tiny-yolov5n"
    (run / "weights").mkdir(parents=True)
    shutil.copy(weights, run / "weights" / "best.pt")
    RunRecord(
        name=run.name,
        kind="training",
        state="finished",
        finished="2026-11-25",
        settings=TrainSettings(weights="yolov5n.pt", imgsz=96),
        epochs=1,
        seconds=1.0,
        device="cpu",
        ensemble=TrainedOn("tiny", "data/ensembles/tiny", card.hash),
    ).save(run)
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, untrained_model: Path) -> Path:
    return make_world(tmp_path_factory.mktemp("world"), untrained_model)


def prepare(way: Way, folder: Path, world: Path) -> None:
    """Lay out what a way starts with; a recipe and a fetched source go with a folder called `only`."""
    if way.world:
        shutil.copytree(world, folder, dirs_exist_ok=True)
    write(folder, {name: content for name, content in way.files.items() if not name.endswith("/")})
    for name in way.files:
        if name.endswith("/"):
            (folder / name).mkdir()
    if (folder / "only").is_dir():
        write(
            folder / "configs", {"sources.yaml": _sources("path: only, format: yolo"), "ensembles/clinic.yaml": CLINIC}
        )
        fetch(folder, ["clinic"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def take(way: Way, folder: Path, world: Path) -> Result:
    """Make a mistake in an empty folder, return the result, and check that no file was lost or left incomplete."""
    prepare(way, folder, world)
    before = contents(folder)
    with chdir(folder):
        result = way.given(way)
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if ".partial" in name or ".old" in name]
    return result


def _case(way: Way) -> Any:
    return pytest.param(way, id=way.what.replace(" ", "-"), marks=[pytest.mark.slow] if way.slow else [])


@pytest.mark.parametrize("way", [_case(way) for way in WAYS])
def test_a_mistake_gets_one_message_and_the_next_step(way: Way, tmp_path: Path, world: Path) -> None:
    result = take(way, tmp_path, world)
    assert result.code == way.code, result.text
    assert not COLOR.search(result.text)
    assert "Traceback" not in result.text
    assert "unexpected" not in result.message.removeprefix("Error: Got unexpected extra argument")
    for words in way.says:
        assert words in result.text
    assert way.then in result.next_step
    assert len(re.findall(r"^error: ", result.text, re.MULTILINE)) <= 1


def test_there_are_forty_different_mistakes() -> None:
    assert len({way.what for way in WAYS}) == len({(way.typed, way.says) for way in WAYS}) == len(WAYS) >= 40


def test_a_failed_run_does_not_occupy_its_name_on_a_full_disk(tmp_path: Path) -> None:
    from facemask_train.training.runs import RunRecord, create_run, named_run

    full = mock.patch("facemask_train.core.files.os.fsync", side_effect=OSError(28, "No space left on device"))
    with full, pytest.raises(OSError, match="No space"):
        create_run(tmp_path / "runs" / "mine", RunRecord("mine", "training", "started"))
    assert not named_run(tmp_path, "mine").exists()


def test_no_line_of_the_help_is_truncated() -> None:
    text = outside(Way("help", "fmask --help", 0, (), env={"COLUMNS": "80"})).text
    listed = text.partition("\nData:\n")[2].partition("Exit codes:")[0].splitlines()
    assert [line for line in listed if re.match(r"\S", line)] == [
        *("Training:", "Evaluation:", "Use a model:", "This project:"),
    ]
    assert len([line for line in listed if re.match(r"  \S", line)]) == 17
    assert not [line for line in listed if line.endswith("...")]


def table() -> str:
    """Return what each way tells, as Markdown."""
    lines = ["| | what was done | typed | exit | the message's first line | and the next step |", "|-|-|-|-|-|-|"]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_model(home / "best.pt", imgsz=96)
        world = make_world(home / "world", home / "best.pt")
        for number, way in enumerate(WAYS, start=1):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            result = take(way, Path(folder), world)
            captured = result.message.removeprefix("error: ").removeprefix("Error: ").replace(f"{folder}/", "")
            after = result.next_step.removeprefix("next: ")
            cells = (str(number), way.what, f"`{way.typed}`", str(result.code), captured, after)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
