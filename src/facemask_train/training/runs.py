"""Run folders: `run.json`, and how runs are found and named. Does not import torch."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from facemask_train import __version__
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import MissingError, UsageError, nearest
from facemask_train.core.files import digest_data, digest_file
from facemask_train.core.records import Record, VersionError
from facemask_train.training.history.results import RESULTS, read_rows
from facemask_train.training.plan import TrainPlan

if TYPE_CHECKING:
    import pandas as pd

MARKER = "run.json"
_PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics-opencv-headless",
    "ultralytics",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "albumentations",
    "wandb",
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """fmask's version, and a digest of its source files, which differs in a modified checkout."""

    version: str
    sources: str


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The ensemble of a run: its path relative to the root if it lies inside, its hash, and its images by split."""

    name: str
    path: str
    hash: str
    images: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """Where a run is tracked: the kind of tracker, the project, and the run's id there."""

    kind: str
    project: str
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something unplanned that happened to a run, such as running out of memory.

    `batch` is the batch from then on, if the event changed it.
    """

    event: str
    time: str = ""
    batch: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GivenWeights:
    """A checkpoint that was given to `fmask evaluate` and that no run of this folder made."""

    file: str
    sha256: str
    imgsz: int


@dataclass(frozen=True, slots=True)
class RunRecord(Record):
    """What `run.json` says about a run: how it was trained, on what, and how it ended.

    Attributes:
        kind: `training`, or `weights` for the folder of a checkpoint that was given to `fmask evaluate`.
        state: `started` until the run is finished.
        command: what the user typed.
        settings: what was requested, by the options and the configuration.
        plan: what was chosen, and why.
        device: the name of the device.
        weights: the checkpoint, for a folder of the kind `weights`.
        parameters: for several processes, the digest of the parameters that each ended with, by rank.
        epochs: finished epochs; `seconds` is the time that they took.
        images_per_second: training throughput, validation not included.
        best: the validation metrics of `best.pt`, by the names that they have in `results.csv`.
    """

    FILE: ClassVar[str] = MARKER
    VERSION: ClassVar[int] = 2
    MAKE: ClassVar[str] = "fmask train"

    name: str
    kind: Literal["training", "weights"]
    state: Literal["started", "finished"]
    command: str = ""
    settings: TrainSettings | None = None
    plan: TrainPlan | None = None
    device: str = ""
    code: CodeVersion | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    ensemble: TrainedOn | None = None
    tracker: TrackedRun | None = None
    weights: GivenWeights | None = None
    events: tuple[RunEvent, ...] = ()
    parameters: tuple[str, ...] = ()
    started: str = ""
    finished: str = ""
    epochs: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    best: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def initial_weights(self) -> str:
        """The file name of the weights that the run started from."""
        path = self.plan.weights if self.plan else self.settings.weights if self.settings else ""
        return path.replace("\\", "/").rpartition("/")[2]

    @property
    def imgsz(self) -> int | None:
        """The image size in pixels that the weights were trained at, if known."""
        if self.settings is not None:
            return self.settings.imgsz
        return None if self.weights is None else self.weights.imgsz

    @property
    def process_count(self) -> int:
        return len(self.plan.processes) if self.plan else 1


def run_folder(root: Path, name: str) -> Path:
    return root / "runs" / name


def read_run(folder: Path) -> RunRecord:
    """Return the record of a run.

    Raises:
        MissingError: the folder is not a run; the message lists the runs that exist.
        DataError: `run.json` is damaged, or from another version of fmask.
    """
    if not (folder / MARKER).exists():
        raise _no_run(folder)
    return RunRecord.load(folder)


def results_table(folder: Path) -> pd.DataFrame:
    """Return a run's `results.csv` as a DataFrame with a row for each epoch, indexed by epoch."""
    import pandas as pd

    rows = [dict(row) for row in read_rows(folder / RESULTS)]
    table = pd.DataFrame(rows if rows else {"epoch": []})
    return table.astype({"epoch": int}).set_index("epoch")


def _no_run(folder: Path) -> MissingError:
    home = next(parent for parent in folder.parents if parent.is_dir())  # `folder` may come from a path given as a name
    there = sorted(path.parent.name for path in home.glob(f"[!.]*/{MARKER}"))
    return MissingError(
        f"{folder}: no such run{nearest(folder.name, there)}; existing runs: {', '.join(there) or '-'}",
        next_step="name one of them; a checkpoint goes after --weights" if there else "fmask train",
    )


def create_run(folder: Path, record: RunRecord) -> None:
    """Create a run's folder with its record: both, or neither."""
    folder.mkdir(parents=True)
    try:
        record.save(folder)
    except OSError:
        folder.rmdir()  # so that the name stays free
        raise


def all_runs(root: Path) -> list[Path]:
    """Return the folders of all runs, by name."""
    return sorted(marker.parent for marker in (root / "runs").glob(f"[!.]*/{MARKER}"))


def read_runs(root: Path) -> list[tuple[Path, RunRecord]]:
    """Return all runs by name. Those of other versions of fmask are skipped with a warning."""
    found = []
    for folder in all_runs(root):
        try:
            found.append((folder, RunRecord.load(folder)))
        except VersionError as error:
            _log.warning("skipped: %s", error)
    return found


def last_run(root: Path, state: Literal["started", "finished"]) -> Path:
    """Return the training run that was started or finished last, of those in this state.

    Raises:
        MissingError: there is none.
    """
    found = [
        (record.finished if state == "finished" else record.started, folder)
        for folder, record in read_runs(root)
        if (record.kind, record.state) == ("training", state)
    ]
    if not found:
        raise MissingError(
            f"{root / 'runs'}: there is no {state} run", next_step="fmask train (or fmask pipeline --sample)"
        )
    return max(found)[1]


def named_run(root: Path, name: str) -> Path:
    """Return the folder for a new run of this name.

    Raises:
        UsageError: the name is invalid or taken.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise UsageError(f"--name {name!r}: expected letters, digits, '.', '-' and '_'", next_step="choose another")
    folder = run_folder(root, name)
    if folder.exists():
        raise UsageError(
            f"{folder}: a run of this name already exists",
            next_step=f"choose another --name, or resume it: fmask train --resume --name {name}",
        )
    return folder


def new_run(root: Path, name: str, default: str) -> Path:
    """Return the folder for a new run: `name`, or the first of `default`, `default-2`, ... that is free."""
    if name:
        return named_run(root, name)
    number = 1
    while (folder := run_folder(root, default if number == 1 else f"{default}-{number}")).exists():
        number += 1
    return folder


def now() -> str:
    """Return the time in UTC as ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat()


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, of those that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_version() -> CodeVersion:
    package = Path(__file__).parents[1]
    digests = [[str(path.relative_to(package)), digest_file(path)] for path in sorted(package.rglob("*.py"))]
    return CodeVersion(__version__, digest_data(digests)[:16])


def duration(seconds: float) -> str:
    """Return a duration in words: `3 h 20 min`, `4 min`, `50 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
