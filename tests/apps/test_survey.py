"""`fmask survey`: who is judged, where and when, how the detector erred, and what is written and said."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facemask_train.apps.survey import time_bins
from facemask_train.apps.survey.detector_errors import Which
from facemask_train.apps.survey.face_rules import Rule, judge, measure
from facemask_train.apps.survey.prevalence import BARE, MASK, MISSED, UNKNOWN
from facemask_train.apps.survey.survey import Plan, Surveyed, odd_light, survey
from facemask_train.apps.survey.time_bins import Bin, Calendar, Moment
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.files import digest_file, write_json
from facemask_train.core.types import CLASSES, Annotation, Box, Detection, ImageResult
from facemask_train.eval import detections_table
from facemask_train.eval.measures.slices import Traits
from facemask_train.model.detector import load_detector
from facemask_train.report import survey as survey_report
from helpers.pagecheck import read_page
from helpers.untrained import scene

RULE = Rule(0.5, 640)
FACE = (10.0, 10.0, 50.0, 50.0)
NOON = datetime(2026, 11, 25, 12, 0, 30)


# ---- who is judged ----


def found(name: str, confidence: float, *corners: float) -> Detection:
    return Detection(name, confidence, corners or FACE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("detections", "answers"),
    [
        ([found("mask", 0.9)], [MASK]),
        ([found("no_mask", 0.51)], [BARE]),
        ([found("mask", 0.5)], [UNKNOWN]),  # not above the operating point
        ([found("mask", 0.26)], [UNKNOWN]),
        ([found("mask", 0.25)], []),  # too faint to be a face
        ([found("mask", 0.9), found("no_mask", 0.4)], [MASK]),  # one face, whose other answer is weak
        ([found("mask", 0.9), found("no_mask", 0.6)], [UNKNOWN]),  # contested
        ([found("mask", 0.9, 10, 10, 17, 17)], [UNKNOWN]),  # 7 pixels
        ([found("mask", 0.9, 10, 10, 18, 18)], [MASK]),
        ([found("mask", 0.9, 10, 10, 10, 18)], []),  # no area
        ([found("mask", 0.9), found("no_mask", 0.8, 100, 10, 140, 50)], [MASK, BARE]),
    ],
)
def test_a_face_is_judged_unknown_or_nothing(detections: list[Detection], answers: list[int]) -> None:
    assert [one.answer for one in judge(detections, RULE, 640, 480)] == answers


def test_a_side_is_measured_as_the_detector_sees_it() -> None:
    (one,) = judge([found("mask", 0.9)], RULE, 1280, 720)
    assert one.side == pytest.approx(20)
    (same,) = judge([found("mask", 0.9)], Rule(0.5, 1280), 1280, 720)
    assert same.side == pytest.approx(40)


def test_a_test_set_is_judged_by_the_same_rule() -> None:
    """One face found, one called by the wrong name, one unsure, one missed, and a box where none is."""
    places = [(10.0 + 100 * i, 10.0, 50.0 + 100 * i, 50.0) for i in range(5)]
    labels = tuple(Annotation(name, Box(*places[i])) for i, name in enumerate(("mask", "no_mask", "mask", "no_mask")))
    answers = (
        found("mask", 0.9, *places[0]), found("no_mask", 0.3, *places[0]), found("mask", 0.8, *places[1]),
        found("no_mask", 0.7, *places[4]), found("mask", 0.4, *places[2]),
    )  # fmt: skip
    empty = ImageResult("b.jpg", 640, 480, (), ())
    measured = measure([ImageResult("a.jpg", 640, 480, labels, answers), empty], RULE)
    assert measured.images == 2
    pairs = sorted(zip(measured.name.tolist(), measured.answer.tolist(), strict=True))
    assert pairs == [(MASK, MASK), (MASK, UNKNOWN), (BARE, MASK), (BARE, MISSED)]
    assert measured.false.answer.tolist() == [BARE]
    assert measured.size.tolist() == [40] * 4


# ---- where and when ----


def test_names_tell_place_and_time() -> None:
    read = time_bins.pattern_of("{place}_{time:%Y%m%d-%H%M}*")
    assert read("a/b/gate_20261125-0830_cam.jpg") == Moment("gate", datetime(2026, 11, 25, 8, 30), True, True)
    assert read("gate.jpg") == Moment()
    assert read("gate_20261131-0830.jpg") == Moment("gate")  # no such day
    assert time_bins.pattern_of("{place}/*")("market/x/1.jpg") == Moment("market")
    assert time_bins.pattern_of("{time:%Y-%m-%d}*")("2026-11-25 (3).png") == Moment("", datetime(2026, 11, 25))


@pytest.mark.parametrize("text", ["", "*", "{plce}", "{place}{place}", "{time:%Y}{time:%m}", "{time:%Q}", "{time}"])
def test_a_pattern_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--pattern"):
        time_bins.pattern_of(text)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_and_pattern_give_a_moment_or_a_usage_error(text: str, name: str) -> None:
    try:
        read = time_bins.pattern_of(text)
    except UsageError:
        return
    assert isinstance(read(name), Moment)


def test_a_table_goes_before_names_and_names_before_the_camera(tmp_path: Path) -> None:
    path = tmp_path / "places.csv"
    path.write_text("file,place,time\n1.jpg,ward,\nclips/*,gate,2026-11-25 08:00\n", encoding="utf-8-sig")
    calendar = Calendar(table=time_bins.read_table(path), pattern=time_bins.pattern_of("{place}-*"), start=NOON)
    assert calendar.moment("x/1.jpg", NOON, None) == Moment("ward", NOON, True, True)
    assert calendar.moment("x/shop-2.jpg", None, None) == Moment("shop")
    assert calendar.moment("clips/a.mp4", None, 90.0) == Moment("gate", datetime(2026, 11, 25, 8, 1, 30), clock=True)
    assert calendar.moment("b.mp4", None, 30.0) == Moment("", NOON + timedelta(seconds=30), True, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,place\na,b\n", "expected the columns"),
        (b"file\na\n", "expected the columns"),
        (b"", "expected the columns"),
        (b"file,place\n,b\n", "line 2: expected a file"),
        (b"file,place\n\xff,b\n", "UTF-8"),
        (b"file,time\na,soon\n", "no time"),
        (b"file,place\na,Main Street, 2\n", "line 2: more cells than columns, such as ' 2'"),
        (b"file,place,file\na,b,c\n", "expected the columns"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "places.csv"
    path.write_bytes(content)
    with pytest.raises((DataError, UsageError), match=said):
        time_bins.read_table(path)


@pytest.mark.parametrize(
    "content",
    [
        "file;place;time\r\n1.jpg;ward, left;2026-11-25 12:00\r\n",
        "file\tplace\ttime\n1.jpg\tward, left\t2026-11-25 12:00\n",
        ' File , Place,TIME\n1.jpg,"ward, left", 2026-11-25T12:00\n',
        'file,place,time\n\n1.jpg,"ward, left",2026-11-25 12:00,,\n',
    ],
)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "places.csv"
    path.write_text(content, encoding="utf-8-sig", newline="")
    assert time_bins.read_table(path) == [("1.jpg", Moment("ward, left", NOON.replace(second=0), True, True))]


def test_rows_of_a_table_that_are_about_no_file_are_known() -> None:
    table = [(row, Moment("x")) for row in ("1.jpg", "a/2.jpg", "a/*", "b/*", "3.jpg", "2.jp?")]
    assert Calendar(table=table).unfit(["a/1.jpg", "a/2.jpg"]) == ["b/*", "3.jpg", "2.jp?"]


@pytest.mark.parametrize(
    ("by", "shown"),
    [
        ("minute", "2026-11-25 12:00"), ("hour", "2026-11-25 12:00"), ("day", "2026-11-25"),
        ("week", "week of 2026-11-23"), ("month", "2026-11"), ("all", ""),
    ],
)  # fmt: skip
def test_bins_begin_where_they_should(by: str, shown: str) -> None:
    assert Calendar(by).bin(Moment("gate", NOON, clock=True)) == Bin("gate", shown)


def test_a_day_without_a_time_of_the_day_is_no_hour_and_no_moment() -> None:
    day = Moment("gate", datetime(2026, 11, 25))
    assert Calendar("hour").bin(day) == Bin("gate", "2026-11-25")
    assert Calendar().cluster("1.jpg", day, None) != Calendar().cluster("2.jpg", day, None)


def test_a_time_of_many_images_is_an_hour_and_no_moment(tmp_path: Path) -> None:
    path = tmp_path / "places.csv"
    path.write_text("file,place,time\nmarket/*,market,2026-11-25 08:00\n")
    calendar = Calendar("hour", table=time_bins.read_table(path))
    one, other = (calendar.moment(f"market/{number}.jpg", None, None) for number in (1, 2))
    assert calendar.bin(one) == calendar.bin(other) == Bin("market", "2026-11-25 08:00")
    assert calendar.cluster("market/1.jpg", one, None) != calendar.cluster("market/2.jpg", other, None)


def test_what_shows_the_same_people_is_one_cluster() -> None:
    calendar = Calendar(cluster_seconds=60)

    def at(seconds: float, place: str = "gate") -> Moment:
        return Moment(place, NOON + timedelta(seconds=seconds), clock=True, exact=True)

    one = calendar.cluster("1.jpg", at(0), None)
    assert calendar.cluster("2.jpg", at(20), None) == one
    assert calendar.cluster("3.jpg", at(40), None) != one
    assert calendar.cluster("2.jpg", at(20, "ward"), None) != one
    assert calendar.cluster("a.mp4", Moment(), 59) == calendar.cluster("a.mp4", Moment(), 0)
    assert calendar.cluster("a.mp4", Moment(), 60) != calendar.cluster("a.mp4", Moment(), 0)
    assert calendar.cluster("b.mp4", Moment(), 0) != calendar.cluster("a.mp4", Moment(), 0)
    assert time_bins.read_time("2026-11-25T08:00", "--start") == (datetime(2026, 11, 25, 8), True)
    with pytest.raises(UsageError, match="did you mean 'day'"):
        time_bins.check_by("days")


# ---- end to end ----


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, untrained_model: Path) -> Path:
    """An evaluation of the small model: labels are what it finds, some of another class, a tenth of them lacking."""
    home = tmp_path_factory.mktemp("made") / "made-test"
    home.mkdir()
    scenes = [scene(seed, 96, 96) for seed in range(30)]
    images = []
    for seed, answers in enumerate(load_detector(untrained_model).predict(scenes, confidence=0.1)):
        judged = judge(answers, Rule(0.25, 96), 96, 96)
        labels = tuple(
            Annotation(CLASSES[one.answer if (seed + i) % 9 else 1 - one.answer], Box(*one.detection.corners))
            for i, one in enumerate(judged)
            if one.answer < UNKNOWN and (seed + i) % 10
        )
        images.append(ImageResult(f"{seed}.png", 96, 96, labels, answers))
    traits = {one.image: Traits("", 128.0, 100.0) for one in images}
    detections_table.write_detections(home / detections_table.DETECTIONS, images)
    detections_table.write_images(
        home / detections_table.IMAGES, images, traits, {one.image: one.image for one in images}
    )
    inputs = {"weights": digest_file(untrained_model), "imgsz": 96}
    point = {"threshold": 0.25, "chosen": "val"}
    write_json(home / "metrics.json", {"ensemble": "made", "inputs": inputs, "operating_point": point})
    return home


@pytest.fixture
def root(tmp_path: Path, untrained_model: Path, evaluated: Path) -> Path:
    """A root in which the small model was evaluated."""
    home = tmp_path / "runs" / f"best-{digest_file(untrained_model)[:8]}" / "evaluation"
    shutil.copytree(evaluated, home / evaluated.name)
    return tmp_path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of two places on two days, and one that cannot be read."""
    folder = tmp_path / "images"
    for number in range(12):
        name = f"{('gate', 'ward')[number % 2]}_2026-11-2{4 + number // 6}_{number}.png"
        folder.mkdir(exist_ok=True)
        Image.fromarray(scene(100 + number, 96, 96)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture
def ask(untrained_model: Path, root: Path) -> Callable[..., Surveyed]:
    def asked(*arguments: Path, **options: Any) -> Surveyed:
        return survey(root, [str(one) for one in arguments], **{"weights": untrained_model, **options})

    return asked


PLACED = Plan(Calendar(pattern=time_bins.pattern_of("{place}_{time:%Y-%m-%d}*")), {"pattern": "as it is"})


def test_bins_add_up_and_all_is_written(ask: Callable[..., Surveyed], images: Path) -> None:
    done = ask(images, plan=PLACED)
    said = done.found
    assert [(one["place"], one["time"]) for one in said["bins"]] == [
        ("gate", "2026-11-24"), ("gate", "2026-11-25"), ("ward", "2026-11-24"), ("ward", "2026-11-25"),
    ]  # fmt: skip
    assert [one["file"] for one in said["problems"]] == ["broken.jpg"]
    for key in ("n", "images", "clusters"):
        assert said[key] == sum(one[key] for one in said["bins"]) > 0
    assert said["unknown"]["faces"] == sum(one["unknown"]["faces"] for one in said["bins"])
    assert said["interval"][0] <= said["rate"] <= said["interval"][1]
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "rates.png", "rates.svg", "report.html", "survey.csv", "survey.json"
    ]  # fmt: skip
    with (done.folder / "survey.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["place"], row["n"]) for row in rows] == [
        *((one["place"], str(one["n"])) for one in said["bins"]), ("all", str(said["n"])),
    ]  # fmt: skip
    assert json.loads((done.folder / "survey.json").read_text()) == said


def test_the_page_says_what_it_rests_on_and_shows_nobody(ask: Callable[..., Surveyed], images: Path) -> None:
    done = ask(images, plan=PLACED)
    page = read_page((done.folder / "report.html").read_bytes())
    assert "img" not in page.tags
    assert "svg" in page.tags
    for words in (
        "What it rests on",
        "How the detector errs",
        "melded",
        "sightings",
        "2026-11-24",
        "gate",
        "broken.jpg",
    ):
        assert words in page.text
    for warning in done.found["warnings"]:
        assert warning in page.text
    chart = (done.folder / "rates.svg").read_text()
    told = [one for one in done.found["bins"] if one["rate"] is not None]
    assert chart.count("<circle") == 2 * len(told) > 0
    assert chart.count("judged faces") == 4


def test_an_equal_survey_is_kept_and_another_question_has_its_own_folder(
    ask: Callable[..., Surveyed], images: Path
) -> None:
    one, again, other = ask(images), ask(images), ask(images, which=Which(confidence=0.4))
    assert (one.up_to_date, again.up_to_date, other.up_to_date) == (False, True, False)
    assert one.folder == again.folder != other.folder
    assert one.found == again.found
    assert one.found["bins"] == []  # no place, no time
    assert other.found["confidence_chosen"] == "user"
    with pytest.raises(UsageError, match="other files"):
        ask(images, out=images)


def test_faces_are_kept_only_when_asked(ask: Callable[..., Surveyed], images: Path) -> None:
    done = ask(images, plan=Plan(keep_faces=True))
    kept = list((done.folder / "faces").rglob("*.jpg"))
    assert len(kept) == done.found["n"] + done.found["unknown"]["faces"]
    assert {path.parent.name for path in kept} <= {*CLASSES, "unknown"}


def test_a_video_is_sampled_by_its_clock_and_its_blocks_are_clusters(
    ask: Callable[..., Surveyed], tmp_path: Path
) -> None:
    import cv2

    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 2, (96, 96))
    for index in range(16):
        writer.write(scene(index, 96, 96))
    writer.release()
    plan = Plan(
        Calendar("minute", start=datetime(2026, 11, 25, 7, 59, 56), cluster_seconds=2.0),
        {"cluster_seconds": 2.0},
        frame_interval=1.0,
    )
    said = ask(path, plan=plan).found
    assert (said["images"], said["clusters"]) == (8, 4)
    assert [(one["time"], one["images"]) for one in said["bins"]] == [
        ("2026-11-25 07:59", 4),
        ("2026-11-25 08:00", 4),
    ]
    assert any("sightings" in one for one in said["warnings"])


def test_without_an_evaluation_the_next_step_is_told(
    root: Path, ask: Callable[..., Surveyed], images: Path, untrained_model: Path
) -> None:
    with pytest.raises(MissingError, match="how these weights err") as caught:
        ask(images, which=Which(data="v8", split="val"))
    assert caught.value.next_step == (f"fmask evaluate --weights {untrained_model} --imgsz 96 --data v8 --split val")
    with pytest.raises(MissingError, match="at 64 px"):
        ask(images, imgsz=64)
    with pytest.raises(UsageError, match="trained on"):
        ask(images, which=Which(split="train"))


def test_a_test_set_of_one_class_is_refused(root: Path, ask: Callable[..., Surveyed], images: Path) -> None:
    (home,) = root.glob("runs/*/evaluation/made-test")
    masked = [
        ImageResult(one.image, 96, 96, tuple(face for face in one.labels if face.name == "mask"), one.detections)
        for one in detections_table.read_images(home)
    ]
    traits = {one.image: Traits("", 128.0, 100.0) for one in masked}
    detections_table.write_images(
        home / detections_table.IMAGES, masked, traits, {one.image: one.image for one in masked}
    )
    with pytest.raises(DataError, match="no face without a mask"):
        ask(images)


def test_odd_light_is_told() -> None:
    tested = np.linspace(80, 160, 200).tolist()
    assert odd_light(tested, [100.0] * 10) == []
    (said,) = odd_light(tested, [20.0] * 3 + [100.0] * 7)
    assert "30 % of the images are darker" in said


def test_the_chart_escapes_what_people_call_their_places() -> None:
    one: dict[str, Any] = {
        "place": "<b>&", "time": "2026-11-25", "rate": None, "interval": [0.0, 1.0], "uncorrected": None, "n": 0
    }  # fmt: skip
    drawn = survey_report.chart([one, {**one, "time": "", "interval": None}])
    assert "<b>" not in drawn
    assert "&lt;b&gt;&amp;" in drawn
    assert "no time" in drawn


@pytest.mark.parametrize(("bins", "turned"), [(1, False), (3, False), (4, True), (40, True)])
def test_names_of_bins_are_turned_where_they_would_touch(bins: int, turned: bool) -> None:
    one = {"place": "", "rate": 0.5, "interval": [0.4, 0.6], "uncorrected": 0.5, "n": 9}
    drawn = survey_report.chart([{**one, "time": f"2026-11-{day + 1:02d}"} for day in range(bins)])
    assert ("rotate(" in drawn) == turned


def test_a_chart_is_drawn_whatever_is_missing_or_called_how(tmp_path: Path) -> None:
    one: dict[str, Any] = {
        "place": "$a_{b$ \u5e02\u573a",
        "time": "",
        "rate": None,
        "interval": None,
        "uncorrected": None,
    }
    other = {**one, "place": "", "time": "2026-11-25", "rate": 0.5, "interval": [0.2, 0.9], "uncorrected": 0.4}
    for name in ("a.png", "b.png"):
        survey_report.draw([one, other], tmp_path / name)
    assert Image.open(tmp_path / "a.png").size[0] > 600
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_few_faces_in_many_bins_are_one_note() -> None:
    bins = [{"place": "", "time": f"day {day}", "warnings": ["few: 2 faces in 1 images"]} for day in range(5)]
    bins[4]["warnings"] = ["another"]
    few, other = survey_report.bin_notes(bins)
    assert few.startswith("4 of 5 bins hold few")
    assert other == "day 4: another"
    assert survey_report.bin_notes(bins[:2])[0] == "day 0: few: 2 faces in 1 images"


def test_the_command_prints_one_object(root: Path, images: Path, untrained_model: Path) -> None:
    command = ["survey", str(images), "--weights", str(untrained_model), "--root", str(root), "--json"]
    ran = subprocess.run(
        [sys.executable, "-m", "facemask_train", *command, "--pattern", "{place}_{time:%Y-%m-%d}*", "--by", "week"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(ran.stdout)
    assert {"rate", "interval", "uncorrected", "n", "unknown", "bins"} <= set(said)
    assert [one["time"] for one in said["bins"]] == ["week of 2026-11-23"] * 2
    assert Path(said["path"]).is_dir()
