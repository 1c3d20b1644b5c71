"""What training shows while it runs, and what is shown of runs afterwards: tables, charts, and the image."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from facemask_train.cli import runs as runs_commands
from facemask_train.cli.progress import Live, epochs_table
from facemask_train.cli.tables import Charts, Fitted, chart
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import is_locked, locked
from facemask_train.core.records import to_json
from facemask_train.training.history import curves, summary
from facemask_train.training.history.results import (
    EpochHistory,
    best_row,
    class_names,
    epoch_seconds,
    keep_rows,
    read_rows,
)
from facemask_train.training.plan import ProcessPlan, plan_training
from facemask_train.training.precision import Machine
from facemask_train.training.runs import GivenWeights, RunRecord
from helpers.command_line import fmask
from helpers.worlds import write

HEADER = (
    "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),"
    "metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss,lr/pg0,class/mask/precision,class/mask/recall,"
    "class/mask/mAP50,class/mask/mAP50-95"
)
TABLE = f"""{HEADER}
1,30.5,4.1,3.4,3.5,0.25,0.5,0.4,0.2,3.2,3.1,3.1,0.01,0.3,0.6,0.45,0.25
2,61,2.1,1.4,2.5,0.75,0.5,0.6,0.4,2.2,2.1,2.1,0.005,0.8,0.6,0.65,0.45
3,92.25,1.1,1.2,1.5,nan,nan,nan,nan,nan,nan,nan,0.0025,nan,nan,nan,nan
"""
SETTINGS = TrainSettings(weights="/x/yolov5s.pt", epochs=5, lr0=0.01, extra={"mosaic": 0.0})
PLAN = plan_training(
    SETTINGS,
    "/x/yolov5s.pt",
    machine=Machine("cpu", cuda=False, cores=2, bf16=False),
    processes=[ProcessPlan(0, "here", "cpu", 64)],
    defaults={},
)
RECORD = {
    "version": RunRecord.VERSION,
    "name": "a",
    "kind": "training",
    "state": "started",
    "command": "fmask train --epochs 5",
    "settings": SETTINGS.model_dump(mode="json"),
    "plan": to_json(PLAN),
    "device": "cpu",
    "ensemble": {
        "name": "v5",
        "path": "data/ensembles/v5",
        "hash": "0123456789abcdef",
        "images": {"train": 8, "val": 2},
    },
    "started": "2026-01-02T03:04:05+00:00",
}
DONE = RECORD | {
    "state": "finished",
    "finished": "2026-01-03T03:04:05+00:00",
    "epochs": 3,
    "seconds": 92.2,
    "best": {f"metrics/{name}": 0.625 for name in ("precision", "recall", "mAP50", "mAP50-95")},
}
SCORED = {
    "ensemble": "v5",
    "split": "test",
    "images": 7,
    "boxes": 9,
    "map50": 0.5,
    "map50_95": 0.25,
    "precision": 0.75,
    "recall": None,
    "intervals": {"map50": [0.4, 0.6], "map50_95": [0.2, 0.3], "precision": [0.7, 0.8], "recall": None},
}


def seen(item: object, width: int, encoding: str = "utf-8") -> str:
    """Return what a terminal of this width shows, without spaces at the ends of lines."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=stream, width=width, highlight=False).print(item)
    stream.seek(0)
    return "".join(f"{line.rstrip()}\n" for line in stream.read().splitlines()).strip("\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with a finished, evaluated run `done` and a cut one, `cut`."""
    write(tmp_path / "runs/done", {"run.json": json.dumps(DONE), "results.csv": TABLE})
    write(tmp_path / "runs/done/evaluation/v5-test", {"metrics.json": json.dumps(SCORED)})
    write(tmp_path / "runs/cut", {"run.json": json.dumps(RECORD), "results.csv": TABLE})
    return tmp_path


# ---- the table of epochs ----


def test_rows_are_read_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    assert read_rows(path) == []
    path.write_text(TABLE + "4,120,1")  # a kill cut the last line short
    rows = read_rows(path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert epoch_seconds(rows) == [30.5, 30.5, 31.25]
    assert class_names(rows) == ["mask"]
    assert best_row(rows) is rows[1]
    assert best_row(rows[2:]) is None
    same = [{**rows[1], "epoch": 7.0}, {**rows[1], "epoch": 8.0}]
    assert best_row(same) is same[1]  # as the package writes best.pt
    keep_rows(path, 2)
    assert path.read_text() == "".join(f"{line}\n" for line in TABLE.splitlines()[:3])


@pytest.mark.parametrize("text", ["epoch,time\n1,x\n", "a,b\n1,2\n", b"epoch\n\xff\n"])
def test_a_damaged_table_is_refused_by_name(text: str | bytes, tmp_path: Path) -> None:
    write(tmp_path, {"results.csv": text})
    with pytest.raises(DataError, match=r"results\.csv: expected a table of numbers"):
        read_rows(tmp_path / "results.csv")


def epochs(tmp_path: Path, count: int = 3) -> EpochHistory:
    write(tmp_path, {"results.csv": TABLE})
    return EpochHistory(tuple(read_rows(tmp_path / "results.csv")[:count]), 12)


def test_the_live_table_at_three_widths(tmp_path: Path) -> None:
    shown = epochs_table(epochs(tmp_path), 9)
    assert seen(shown, 200) == (
        " epoch    box    cls    dfl  mAP50  mAP50-95  precision  recall     rate   sec\n"
        " ───────────────────────────────────────────────────────────────────────────────────\n"
        "  1/12  4.100  3.400  3.500  0.400     0.200      0.250   0.500  0.01000  30.5\n"
        "  2/12  2.100  1.400  2.500  0.600     0.400      0.750   0.500  0.00500  30.5  best\n"
        "  3/12  1.100  1.200  1.500      -         -          -       -  0.00250  31.2"
    )
    assert seen(shown, 80).splitlines()[0] == (" epoch    box    cls    dfl  mAP50  mAP50-95  precision  recall   sec")
    assert seen(shown, 40) == (
        " epoch  mAP50  mAP50-95\n"
        " ────────────────────────────\n"
        "  1/12  0.400     0.200\n"
        "  2/12  0.600     0.400  best\n"
        "  3/12      -         -"
    )


def test_the_live_table_keeps_the_last_epochs_and_the_best(tmp_path: Path) -> None:
    found = epochs(tmp_path)
    later = tuple({**found.rows[2], "epoch": float(number), "time": 92.25 + number} for number in range(4, 11))
    shown = seen(epochs_table(replace(found, rows=found.rows + later), 3), 40).splitlines()[2:]
    assert [line.split()[0] for line in shown] == ["2/12", "9/12", "10/12"]
    assert shown[0].endswith("best")
    assert len(seen(epochs_table(found, 1), 40).splitlines()) == 3


def test_a_new_description_of_the_same_work_keeps_the_pace() -> None:
    bar = Live(Console(file=io.StringIO(), width=80))
    bar.move("train, epoch 1 of 2", 3, 10)
    begun = bar.tasks[0].start_time
    bar.move("train, epoch 2 of 2", 6, 10)
    assert (bar.tasks[0].description, bar.tasks[0].completed) == ("train, epoch 2 of 2", 6)
    assert bar.tasks[0].start_time == begun
    bar.move("validate", 1, 4)
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (1, 4)
    assert len(bar.tasks) == 1


# ---- on a terminal, and elsewhere ----

TRAINING = """
import logging, sys, time
from pathlib import Path
from facemask_train.cli.console import terminal
from facemask_train.training.history.results import EpochHistory, read_rows
rows = tuple(read_rows(Path(sys.argv[1])))
log = logging.getLogger("facemask_train.training")
with terminal(as_json="json" in sys.argv, quiet="quiet" in sys.argv, debug=False) as term:
    log.info("begins [so]")
    for number in range(1, len(rows) + 1):
        term.progress(f"train, epoch {number} of 3", number, 3)
        log.info("epoch %d of 3", number, extra={"epochs": EpochHistory(rows[:number], 3)})
        if number == 2 and "interrupt" in sys.argv:
            raise KeyboardInterrupt
    term.result({"run": "r"}, "the result")
"""


def on_a_terminal(path: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Return the exit code, and the lines that stay on an 80-column terminal when the process is over."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", TRAINING, str(path), *words]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "20", **environment}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    text = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            found = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not found:
            break
        text += found
    os.close(leader)
    return process.wait(), text.decode()


def test_a_terminal_shows_a_table_of_epochs_and_ctrl_c_leaves_it_clean(tmp_path: Path) -> None:
    write(tmp_path, {"results.csv": TABLE})
    code, text = on_a_terminal(tmp_path / "results.csv")
    assert code == 0
    assert "epoch 3 of 3:" not in text
    assert text.count("begins [so]") == 1
    assert "train, epoch" in text
    last = text[text.rindex("mAP50-95") :]
    assert ["3/3" in last, "best" in last, "the result" in last, "━" in last] == [True, True, True, False]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert "\x1b[3" not in text  # NO_COLOR
    code, text = on_a_terminal(tmp_path / "results.csv", "interrupt")
    assert code == 130
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.index("error: interrupted") > text.rindex("2/3")


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(tmp_path: Path) -> None:
    write(tmp_path, {"results.csv": TABLE})
    code, text = on_a_terminal(tmp_path / "results.csv", TERM="dumb")
    assert (code, text.splitlines()) == (
        0, ["begins [so]", "epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3", "the result"]
    )  # fmt: skip
    assert on_a_terminal(tmp_path / "results.csv", "json", "quiet") == (0, '{"run": "r"}\r\n')


def test_a_file_gets_a_line_per_epoch(tmp_path: Path) -> None:
    write(tmp_path, {"results.csv": TABLE})
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "results.csv"), "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == '{"run": "r"}\n'
    assert done.stderr == "begins [so]\nepoch 1 of 3\nepoch 2 of 3\nepoch 3 of 3\n"


# ---- the list of runs ----


def test_the_list_at_80_and_200_columns(root: Path) -> None:
    shown = runs_commands.listed(summary.list_runs(root), root)
    assert len(shown) == 1
    assert seen(shown[0], 80) == (
        "Runs, the newest first; best epoch on val, in percent\n"
        "\n"
        " run         state         data  epochs  mAP 0.5  0.5:0.95  precision  recall\n"
        " ────────────────────────────────────────────────────────────────────────────\n"
        " done     finished  v5 01234567     3/5     62.5      62.5       62.5    62.5\n"
        " cut   interrupted  v5 01234567     3/5     60.0      40.0       75.0    50.0"
    )
    wide = seen(shown[0], 200).splitlines()
    assert " ".join(wide[2].split()) == (
        "run state data weights epochs mAP 0.5 0.5:0.95 precision recall test mAP 0.5 device took date"
    )
    assert wide[4].endswith("50.0 (40.0 to 60.0)     cpu  2 min  2026-01-03")
    assert all(len(line) <= 40 for line in seen(shown[0], 40).splitlines())


def test_a_run_is_running_while_a_process_has_locked_it(root: Path) -> None:
    folder = root / "runs/cut"
    assert not is_locked(folder)
    with locked(folder):
        assert is_locked(folder)
        assert summary.read_summary(folder).state == "running"
    assert summary.read_summary(folder).state == "interrupted"
    with locked(folder):  # having looked holds nothing
        pass


def test_damaged_runs_are_reported_and_the_others_listed(root: Path) -> None:
    write(root / "runs/torn", {"run.json": '{"name"'})
    write(root / "runs/table", {"run.json": json.dumps(DONE), "results.csv": "epoch\nx\n"})
    write(root / "runs/table/evaluation/v5-test", {"metrics.json": "[]"})
    write(root / "runs/odd", {"run.json": '{"settings": [1], "ensemble": 3, "state": 5, "best": "x", "seconds": true}'})
    given = RunRecord("given", "weights", "finished", weights=GivenWeights("w.pt", "0" * 64, 64))
    (root / "runs/given").mkdir()
    given.save(root / "runs/given")
    write(root / "runs/old", {"run.json": json.dumps(DONE | {"version": 1})})
    found = {run.name: run for run in summary.list_runs(root)}
    assert {name: run.state for name, run in found.items()} == {
        "done": "finished", "table": "finished", "cut": "interrupted", "torn": "damaged", "odd": "damaged",
        "given": "weights", "old": "damaged",
    }  # fmt: skip
    assert [len(found[name].problems) for name in ("done", "torn", "table", "odd", "old")] == [0, 1, 2, 1, 1]
    shown = runs_commands.listed(list(found.values()), root)
    assert len(shown) == 1 + 5
    assert any("old/run.json: expected version 2, found 1" in line for line in shown[1:])
    assert any("torn/run.json: expected JSON" in line for line in shown[1:])
    for run in found.values():
        assert all(seen(item, 80) for item in runs_commands.shown(run))
        json.dumps(summary.full_json(run), allow_nan=False)


def test_the_list_as_json_has_full_values(root: Path) -> None:
    listed = fmask("runs", "--json", cwd=root)
    runs = {one["name"]: one for one in json.loads(listed.stdout)["runs"]}
    assert list(runs) == ["done", "cut"]
    assert runs["cut"] == {
        "name": "cut",
        "path": "runs/cut",
        "state": "interrupted",
        "ensemble": {"name": "v5", "hash": "0123456789abcdef"},
        "weights": "yolov5s.pt",
        "epochs": 3,
        "planned_epochs": 5,
        "best": {"precision": 0.75, "recall": 0.5, "mAP50": 0.6, "mAP50-95": 0.4},
        "best_epoch": 2,
        "evaluations": [],
        "device": "cpu",
        "seconds": 92.25,
        "started": "2026-01-02T03:04:05+00:00",
        "finished": None,
        "problems": [],
    }
    assert runs["done"]["evaluations"] == [SCORED]
    assert runs["done"]["best"]["mAP50"] == 0.625
    before = fmask("runs", "--json", "show", "cut", cwd=root)  # options before the command count too
    printed = json.loads(before.stdout)
    assert (len(printed["rows"]), printed["rows"][2]["metrics/mAP50(B)"]) == (3, None)
    assert {key: printed["record"][key] for key in RECORD if key != "version"} == {
        key: value for key, value in RECORD.items() if key != "version"
    }
    assert printed["curves"] == "runs/cut/curves.png"
    assert Image.open(root / "runs/cut/curves.png").size == (1600, 740)


def test_one_run_is_described(root: Path) -> None:
    shown = fmask("runs", "show", cwd=root, COLUMNS="80").stdout
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[0] == "done: finished, 3 of 5 epochs, 2 min"
    assert any("v5 (train 8, val 2), hash 0123456789ab" in line for line in lines)
    assert any(
        line.split() == ["not", "by", "default", "weights", "/x/yolov5s.pt,", "epochs", "5,", "mosaic", "0.0"]
        for line in lines
    )
    assert any(line.startswith("  chosen, precision ") and "fp32 (this processor only" in line for line in lines)
    assert " mask      65.0      45.0       80.0    60.0" in lines
    assert "v5, test 7 50.0 (40.0 to 60.0) 25.0 (20.0 to 30.0)" in [" ".join(line.split()) for line in lines]
    assert lines[-1] == "curves: runs/done/curves.png"
    assert fmask("runs", "show", "dune", cwd=root).stderr.count("did you mean 'done'?") == 1
    plain = fmask("runs", "show", cwd=root, PYTHONIOENCODING="ascii").stdout
    assert "*" in plain
    assert "?" not in plain


def test_a_name_with_brackets_is_not_markup() -> None:
    assert seen(Fitted("", [("weights", ["a[b].pt", "[/]"], 0)]), 40) == " weights\n ───────\n a[b].pt\n [/]"


def test_there_are_no_runs(tmp_path: Path) -> None:
    shown = fmask("runs", cwd=tmp_path)
    assert (shown.returncode, "start one with fmask train" in shown.stdout) == (0, True)
    assert json.loads(fmask("runs", "--json", cwd=tmp_path).stdout) == {"runs": []}
    with pytest.raises(MissingError):
        summary.find_run(tmp_path, "")


# ---- charts and the image ----


def test_a_chart_in_characters() -> None:
    assert chart([0, 1, 2, 3, 4, 5], width=16, height=3) == ["5 │        ⢀⡠⠤⠒⠉", "  │    ⢀⡠⠔⠊⠁", "0 │⣀⠤⠒⠊⠁"]
    gaps = [0, math.nan, math.inf, 5, 5, 1]
    assert chart(gaps, width=12, height=3, plain=True) == ["5 |     **", "  |       *", "0 |*       *"]
    assert chart([2, 2], width=6, height=3, plain=True) == ["2 |", "  |***", "2 |"]
    assert chart([math.nan], width=40, height=2) == ["no values", ""]


def test_charts_are_side_by_side_if_they_fit() -> None:
    shown = Charts([("one", [0, 1]), ("two", [1, 0])], height=2, least=10, most=10)
    assert seen(shown, 24, "ascii") == "one       two\n1 |   **  1 |***\n0 |***    0 |   **"
    assert seen(shown, 12, "ascii") == "one\n1 |   **\n0 |***\n\ntwo\n1 |***\n0 |   **"


def test_curves_are_drawn_for_any_results(tmp_path: Path) -> None:
    write(tmp_path, {"results.csv": TABLE})
    rows = read_rows(tmp_path / "results.csv")
    odd = [{key: math.inf if "loss" in key else value for key, value in row.items()} for row in rows]
    for some in (rows[:1], odd, [{"epoch": 1.0}]):
        with Image.open(io.BytesIO(curves.png("a $run$ with_signs", some))) as drawn:
            assert (drawn.format, drawn.size) == ("PNG", (1600, 740))
    assert curves.png("r", rows) == curves.png("r", rows)


def test_an_error_while_drawing_does_not_stop_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert curves.draw(tmp_path) == []  # no epoch, no image
    write(tmp_path, {"results.csv": "epoch\nx\n"})
    assert curves.draw(tmp_path) == []
    assert "curves.png is left out: DataError" in caplog.text
    write(tmp_path, {"results.csv": TABLE})
    (tmp_path / "curves.png").mkdir()  # in the way: an OSError
    assert curves.draw(tmp_path) == []
    (tmp_path / "curves.png").rmdir()
    assert curves.draw(tmp_path) == [tmp_path / "curves.png"]


SERIES = st.lists(st.floats(width=64), max_size=200)


@given(SERIES, st.integers(8, 120), st.integers(1, 12), st.booleans())
def test_a_chart_of_any_series_is_drawn(values: list[float], width: int, height: int, plain: bool) -> None:
    lines = chart(values, width=width, height=height, plain=plain)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    inked = [mark for line in lines for mark in line if mark == "*" or 0x2800 < ord(mark) < 0x2900]
    assert not plain or all(line.isascii() for line in lines)
    if width > 20:  # below, the labels of a huge range can take all of it
        assert bool(inked) == any(map(math.isfinite, values))
