"""`fmask survey`: which faces are classified, places and times, the detector's errors, and the output."""

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

from facemask_train.apps.records.survey import FEW, PrevalenceEstimate, Survey, SurveyBin
from facemask_train.apps.survey import time_bins
from facemask_train.apps.survey.caveats import brightness_caveats
from facemask_train.apps.survey.detector_errors import ReferenceSet
from facemask_train.apps.survey.face_rules import FaceRules, classify_faces, classify_reference
from facemask_train.apps.survey.samples import MASK, MISSED, NO_MASK, UNKNOWN
from facemask_train.apps.survey.survey import SurveyOptions, SurveyResult, survey
from facemask_train.apps.survey.time_bins import Bin, BinningRules, PlaceTime
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.files import digest_file
from facemask_train.core.types import CLASSES, Annotation, Box, Detection, ImageResult
from facemask_train.eval import detections_table
from facemask_train.eval.measures.slices import ImageTraits
from facemask_train.model.detector import load_detector
from facemask_train.report import survey as survey_report
from helpers.metrics import inputs, operating_point, write_metrics
from helpers.pagecheck import read_page
from helpers.untrained import scene

RULE = FaceRules(0.5, 640)
FACE = (10.0, 10.0, 50.0, 50.0)
NOON = datetime(2026, 11, 25, 12, 0, 30)


# ---- which faces are classified ----


def found(name: str, confidence: float, *corners: float) -> Detection:
    return Detection(name, confidence, corners or FACE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("detections", "answers"),
    [
        ([found("mask", 0.9)], [MASK]),
        ([found("no_mask", 0.51)], [NO_MASK]),
        ([found("mask", 0.5)], [UNKNOWN]),  # not above the operating point
        ([found("mask", 0.26)], [UNKNOWN]),
        ([found("mask", 0.25)], []),  # too faint to be a face
        ([found("mask", 0.9), found("no_mask", 0.4)], [MASK]),  # one face, whose other answer is weak
        ([found("mask", 0.9), found("no_mask", 0.6)], [UNKNOWN]),  # contested
        ([found("mask", 0.9, 10, 10, 17, 17)], [UNKNOWN]),  # 7 pixels
        ([found("mask", 0.9, 10, 10, 18, 18)], [MASK]),
        ([found("mask", 0.9, 10, 10, 10, 18)], []),  # no area
        ([found("mask", 0.9), found("no_mask", 0.8, 100, 10, 140, 50)], [MASK, NO_MASK]),
    ],
)
def test_a_face_is_classified_unknown_or_ignored(detections: list[Detection], answers: list[int]) -> None:
    assert [one.outcome for one in classify_faces(detections, RULE, 640, 480)] == answers


def test_a_side_is_measured_at_the_input_size() -> None:
    (one,) = classify_faces([found("mask", 0.9)], RULE, 1280, 720)
    assert one.side == pytest.approx(20)
    (same,) = classify_faces([found("mask", 0.9)], FaceRules(0.5, 1280), 1280, 720)
    assert same.side == pytest.approx(40)


def test_a_reference_set_is_classified_with_the_same_rules() -> None:
    """One face found, one misclassified, one unknown, one missed, and a box without a face."""
    places = [(10.0 + 100 * i, 10.0, 50.0 + 100 * i, 50.0) for i in range(5)]
    labels = tuple(Annotation(name, Box(*places[i])) for i, name in enumerate(("mask", "no_mask", "mask", "no_mask")))
    answers = (
        found("mask", 0.9, *places[0]), found("no_mask", 0.3, *places[0]), found("mask", 0.8, *places[1]),
        found("no_mask", 0.7, *places[4]), found("mask", 0.4, *places[2]),
    )  # fmt: skip
    empty = ImageResult("b.jpg", 640, 480, (), ())
    measured = classify_reference([ImageResult("a.jpg", 640, 480, labels, answers), empty], RULE)
    assert measured.images == 2
    pairs = sorted(zip(measured.label.tolist(), measured.outcome.tolist(), strict=True))
    assert pairs == [(MASK, MASK), (MASK, UNKNOWN), (NO_MASK, MASK), (NO_MASK, MISSED)]
    assert measured.false_boxes.outcome.tolist() == [NO_MASK]
    assert measured.size.tolist() == [40] * 4


# ---- where and when ----


def test_place_and_time_are_read_from_names() -> None:
    read = time_bins.parse_pattern("{place}_{time:%Y%m%d-%H%M}*").read
    assert read("a/b/gate_20261125-0830_cam.jpg") == PlaceTime("gate", datetime(2026, 11, 25, 8, 30), True, True)
    assert read("gate.jpg") == PlaceTime()
    assert read("gate_20261131-0830.jpg") == PlaceTime("gate")  # no such day
    assert time_bins.parse_pattern("{place}/*").read("market/x/1.jpg") == PlaceTime("market")
    assert time_bins.parse_pattern("{time:%Y-%m-%d}*").read("2026-11-25 (3).png") == PlaceTime(
        "", datetime(2026, 11, 25)
    )


@pytest.mark.parametrize("text", ["", "*", "{plce}", "{place}{place}", "{time:%Y}{time:%m}", "{time:%Q}", "{time}"])
def test_a_pattern_without_placeholders_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--pattern"):
        time_bins.parse_pattern(text)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_and_pattern_give_a_place_time_or_a_usage_error(text: str, name: str) -> None:
    try:
        pattern = time_bins.parse_pattern(text)
    except UsageError:
        return
    assert isinstance(pattern.read(name), PlaceTime)


def test_a_table_overrides_names_and_names_override_exif(tmp_path: Path) -> None:
    path = tmp_path / "places.csv"
    path.write_text("file,place,time\n1.jpg,ward,\nclips/*,gate,2026-11-25 08:00\n", encoding="utf-8-sig")
    rules = BinningRules(table=time_bins.read_table(path), pattern=time_bins.parse_pattern("{place}-*"), start=NOON)
    assert rules.place_time("x/1.jpg", NOON, None) == PlaceTime("ward", NOON, True, True)
    assert rules.place_time("x/shop-2.jpg", None, None) == PlaceTime("shop")
    assert rules.place_time("clips/a.mp4", None, 90.0) == PlaceTime(
        "gate", datetime(2026, 11, 25, 8, 1, 30), clock=True
    )
    assert rules.place_time("b.mp4", None, 30.0) == PlaceTime("", NOON + timedelta(seconds=30), True, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,place\na,b\n", "expected the columns"),
        (b"file\na\n", "expected the columns"),
        (b"", "expected the columns"),
        (b"file,place\n,b\n", "line 2: expected a file name"),
        (b"file,place\n\xff,b\n", "UTF-8"),
        (b"file,time\na,soon\n", "expected a date or a time"),
        (b"file,place\na,Main Street, 2\n", "line 2: more cells than columns, such as ' 2'"),
        (b"file,place,file\na,b,c\n", "expected the columns"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "places.csv"
    path.write_bytes(content)
    with pytest.raises((DataError, UsageError), match=message):
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
def test_tables_of_spreadsheet_programs_are_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "places.csv"
    path.write_text(content, encoding="utf-8-sig", newline="")
    assert time_bins.read_table(path) == [("1.jpg", PlaceTime("ward, left", NOON.replace(second=0), True, True))]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("2026-11-25T14:30Z", "2026-11-25T15:30Z"), (14, 15)),
        (("2026-11-25T14:30+09:00", "2026-11-25 23:30+09:00"), (14, 23)),
        (("2026-11-25T14:30+01:00", "2026-11-25T14:30+02:00"), (14, 13)),  # one instant later than the other
        (("2026-11-25T14:30Z", "2026-11-25T23:45+09:00"), (14, 14)),
        (("2026-11-25T14:30Z", ""), (14, None)),
    ],
)
def test_offsets_of_a_table_are_honored(tmp_path: Path, times: tuple[str, str], expected: tuple[int, ...]) -> None:
    path = tmp_path / "places.csv"
    path.write_text("file,place,time\n" + "".join(f"{n}.jpg,gate,{time}\n" for n, time in enumerate(times)))
    found = [one.time for _, one in time_bins.read_table(path)]
    assert tuple(time and time.hour for time in found) == expected
    assert all(time is None or time.tzinfo is None for time in found)


@pytest.mark.parametrize("times", [("2026-11-25T14:30Z", "2026-11-25 14:30"), ("2026-11-25", "2026-11-25T14:30+09:00")])
def test_times_with_and_without_an_offset_are_not_mixed(tmp_path: Path, times: tuple[str, str]) -> None:
    path = tmp_path / "places.csv"
    path.write_text("file,place,time\n" + "".join(f"{n}.jpg,gate,{time}\n" for n, time in enumerate(times)))
    with pytest.raises(UsageError, match="expected all times with an offset from UTC, or none; found one in line"):
        time_bins.read_table(path)


@pytest.mark.parametrize("text", ["2026-11-25T14:30Z", "0001-01-01T00:00+09:00", "9999-12-31T23:59-09:00"])
def test_a_start_has_no_offset(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        time_bins.read_time(text, "--start")


def test_rows_of_a_table_that_match_no_file_are_found() -> None:
    table = [(row, PlaceTime("x")) for row in ("1.jpg", "a/2.jpg", "a/*", "b/*", "3.jpg", "2.jp?")]
    assert BinningRules(table=table).unmatched_rows(["a/1.jpg", "a/2.jpg"]) == ["b/*", "3.jpg", "2.jp?"]


@pytest.mark.parametrize(
    ("by", "shown"),
    [
        ("minute", "2026-11-25 12:00"), ("hour", "2026-11-25 12:00"), ("day", "2026-11-25"),
        ("week", "week of 2026-11-23"), ("month", "2026-11"), ("all", ""),
    ],
)  # fmt: skip
def test_bins_start_where_they_should(by: str, shown: str) -> None:
    assert BinningRules(by).bin(PlaceTime("gate", NOON, clock=True)) == Bin("gate", shown)


def test_a_date_without_a_time_is_neither_an_hour_nor_a_cluster() -> None:
    day = PlaceTime("gate", datetime(2026, 11, 25))
    assert BinningRules("hour").bin(day) == Bin("gate", "2026-11-25")
    assert BinningRules().cluster("1.jpg", day, None) != BinningRules().cluster("2.jpg", day, None)


def test_a_time_of_many_images_is_an_hour_but_not_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "places.csv"
    path.write_text("file,place,time\nmarket/*,market,2026-11-25 08:00\n")
    rules = BinningRules("hour", table=time_bins.read_table(path))
    one, other = (rules.place_time(f"market/{number}.jpg", None, None) for number in (1, 2))
    assert rules.bin(one) == rules.bin(other) == Bin("market", "2026-11-25 08:00")
    assert rules.cluster("market/1.jpg", one, None) != rules.cluster("market/2.jpg", other, None)


def test_images_of_one_place_and_moment_form_a_cluster() -> None:
    rules = BinningRules(cluster_seconds=60)

    def at(seconds: float, place: str = "gate") -> PlaceTime:
        return PlaceTime(place, NOON + timedelta(seconds=seconds), clock=True, exact=True)

    one = rules.cluster("1.jpg", at(0), None)
    assert rules.cluster("2.jpg", at(20), None) == one
    assert rules.cluster("3.jpg", at(40), None) != one
    assert rules.cluster("2.jpg", at(20, "ward"), None) != one
    assert rules.cluster("a.mp4", PlaceTime(), 59) == rules.cluster("a.mp4", PlaceTime(), 0)
    assert rules.cluster("a.mp4", PlaceTime(), 60) != rules.cluster("a.mp4", PlaceTime(), 0)
    assert rules.cluster("b.mp4", PlaceTime(), 0) != rules.cluster("a.mp4", PlaceTime(), 0)
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
        found_classes = classify_faces(answers, FaceRules(0.25, 96), 96, 96)
        labels = tuple(
            Annotation(CLASSES[one.outcome if (seed + i) % 9 else 1 - one.outcome], Box(*one.detection.corners))
            for i, one in enumerate(found_classes)
            if one.outcome < UNKNOWN and (seed + i) % 10
        )
        images.append(ImageResult(f"{seed}.png", 96, 96, labels, answers))
    traits = {one.image: ImageTraits("", 128.0, 100.0) for one in images}
    detections_table.write_detections(home / detections_table.DETECTIONS, images)
    detections_table.write_images(
        home / detections_table.IMAGES, images, traits, {one.image: one.image for one in images}
    )
    own = inputs(digest_file(untrained_model), 96, "made")
    write_metrics(home, ensemble="made", inputs=own, operating_point=operating_point(0.25))
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
def ask(untrained_model: Path, root: Path) -> Callable[..., SurveyResult]:
    def run_survey(*arguments: Path, **options: Any) -> SurveyResult:
        return survey(root, [str(one) for one in arguments], **{"weights": untrained_model, **options})

    return run_survey


PATTERN = "{place}_{time:%Y-%m-%d}*"
PLACED = SurveyOptions(BinningRules(pattern=time_bins.parse_pattern(PATTERN)))


def test_bins_add_up_and_all_files_are_written(ask: Callable[..., SurveyResult], images: Path) -> None:
    done = ask(images, options=PLACED)
    record, overall = done.record, done.record.overall
    assert [(one.place, one.time) for one in record.bins] == [
        ("gate", "2026-11-24"), ("gate", "2026-11-25"), ("ward", "2026-11-24"), ("ward", "2026-11-25"),
    ]  # fmt: skip
    assert [one.file for one in record.problems] == ["broken.jpg"]
    for key in ("n", "images", "clusters", "unknown"):
        assert getattr(overall, key) == sum(getattr(one.estimate, key) for one in record.bins)
    assert min(overall.n, overall.images, overall.clusters) > 0
    assert overall.rate is not None
    assert overall.interval is not None
    assert overall.interval[0] <= overall.rate <= overall.interval[1]
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "rates.png", "rates.svg", "report.html", "survey.csv", "survey.json"
    ]  # fmt: skip
    with (done.folder / "survey.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["place"], row["n"]) for row in rows] == [
        *((one.place, str(one.estimate.n)) for one in record.bins), ("all", str(overall.n)),
    ]  # fmt: skip
    assert Survey.load(done.folder) == record


def test_the_page_states_its_assumptions_and_shows_no_faces(ask: Callable[..., SurveyResult], images: Path) -> None:
    done = ask(images, options=PLACED)
    page = read_page((done.folder / "report.html").read_bytes())
    assert "img" not in page.tags
    assert "svg" in page.tags
    for words in (
        "Assumptions",
        "The detector's errors",
        "melded",
        "sightings",
        "2026-11-24",
        "gate",
        "broken.jpg",
    ):
        assert words in page.text
    for warning in done.record.overall.warnings:
        assert warning in page.text
    chart = (done.folder / "rates.svg").read_text()
    drawn = [one for one in done.record.bins if one.estimate.rate is not None]
    assert chart.count("<circle") == 2 * len(drawn) > 0
    assert chart.count("classified faces") == 4


def test_an_equal_survey_is_not_repeated_and_other_options_get_their_own_folder(
    ask: Callable[..., SurveyResult], images: Path
) -> None:
    one, again, other = ask(images), ask(images), ask(images, reference=ReferenceSet(confidence=0.4))
    assert (one.up_to_date, again.up_to_date, other.up_to_date) == (False, True, False)
    assert one.folder == again.folder != other.folder
    assert one.record == again.record
    assert one.record.bins == ()  # no place, no time
    assert other.record.confidence_chosen == "user"
    with pytest.raises(UsageError, match="other files"):
        ask(images, out=images)


def test_faces_are_saved_on_request_only(ask: Callable[..., SurveyResult], images: Path) -> None:
    done = ask(images, options=SurveyOptions(keep_faces=True))
    kept = list((done.folder / "faces").rglob("*.jpg"))
    assert len(kept) == done.record.overall.n + done.record.overall.unknown
    assert {path.parent.name for path in kept} <= {*CLASSES, "unknown"}


def test_a_video_is_sampled_by_its_clock_and_split_into_clusters(
    ask: Callable[..., SurveyResult], tmp_path: Path
) -> None:
    import cv2

    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 2, (96, 96))
    for index in range(16):
        writer.write(scene(index, 96, 96))
    writer.release()
    options = SurveyOptions(
        BinningRules("minute", start=datetime(2026, 11, 25, 7, 59, 56), cluster_seconds=2.0),
        frame_interval=1.0,
    )
    record = ask(path, options=options).record
    assert (record.overall.images, record.overall.clusters) == (8, 4)
    assert [(one.time, one.estimate.images) for one in record.bins] == [
        ("2026-11-25 07:59", 4),
        ("2026-11-25 08:00", 4),
    ]
    assert any("sightings" in one for one in record.overall.warnings)


def test_without_an_evaluation_the_error_names_the_next_step(
    root: Path, ask: Callable[..., SurveyResult], images: Path, untrained_model: Path
) -> None:
    with pytest.raises(MissingError, match="needs an evaluation of these weights") as caught:
        ask(images, reference=ReferenceSet(data="v8", split="val"))
    assert caught.value.next_step == (f"fmask evaluate --weights {untrained_model} --imgsz 96 --data v8 --split val")
    with pytest.raises(MissingError, match="at 64 px"):
        ask(images, imgsz=64)
    with pytest.raises(UsageError, match="not trained on"):
        ask(images, reference=ReferenceSet(split="train"))


def test_a_reference_set_of_one_class_is_refused(root: Path, ask: Callable[..., SurveyResult], images: Path) -> None:
    (home,) = root.glob("runs/*/evaluation/made-test")
    masked = [
        ImageResult(one.image, 96, 96, tuple(face for face in one.labels if face.name == "mask"), one.detections)
        for one in detections_table.read_images(home)
    ]
    traits = {one.image: ImageTraits("", 128.0, 100.0) for one in masked}
    detections_table.write_images(
        home / detections_table.IMAGES, masked, traits, {one.image: one.image for one in masked}
    )
    with pytest.raises(DataError, match="no face without a mask"):
        ask(images)


def test_shifted_brightness_gives_a_warning() -> None:
    tested = np.linspace(80, 160, 200).tolist()
    assert brightness_caveats(tested, [100.0] * 10) == []
    (message,) = brightness_caveats(tested, [20.0] * 3 + [100.0] * 7)
    assert "30 % of the images are darker" in message


def survey_bin(place: str, time: str, rate: float | None, interval: tuple[float, float] | None, *why: str) -> SurveyBin:
    return SurveyBin(place, time, PrevalenceEstimate(rate, interval, rate, None, 9, 0, None, 1, 1, why))


def test_the_chart_escapes_place_names() -> None:
    bins = [survey_bin("<b>&", "2026-11-25", None, (0.0, 1.0)), survey_bin("<b>&", "", None, None)]
    drawn = survey_report.chart(bins)
    assert "<b>" not in drawn
    assert "&lt;b&gt;&amp;" in drawn
    assert "no time" in drawn


@pytest.mark.parametrize(("bins", "turned"), [(1, False), (3, False), (4, True), (40, True)])
def test_bin_names_are_rotated_where_they_would_overlap(bins: int, turned: bool) -> None:
    drawn = survey_report.chart([survey_bin("", f"2026-11-{day + 1:02d}", 0.5, (0.4, 0.6)) for day in range(bins)])
    assert ("rotate(" in drawn) == turned


def test_a_chart_is_drawn_with_missing_values_and_any_place_name(tmp_path: Path) -> None:
    bins = [survey_bin("$a_{b$ \u5e02\u573a", "", None, None), survey_bin("", "2026-11-25", 0.5, (0.2, 0.9))]
    for name in ("a.png", "b.png"):
        survey_report.draw(bins, tmp_path / name)
    assert Image.open(tmp_path / "a.png").size[0] > 600
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_many_bins_with_few_faces_share_one_note() -> None:
    few = f"{FEW}2 faces in 1 clusters of images"
    bins = [survey_bin("", f"day {day}", None, None, few if day < 4 else "another") for day in range(5)]
    shared, other = survey_report.bin_notes(bins)
    assert shared.startswith("4 of 5 bins h")
    assert other == "day 4: another"
    assert survey_report.bin_notes(bins[:2])[0] == f"day 0: {few}"


@pytest.mark.slow
def test_the_command_prints_one_object(root: Path, images: Path, untrained_model: Path) -> None:
    command = ["survey", str(images), "--weights", str(untrained_model), "--root", str(root), "--json"]
    ran = subprocess.run(
        [sys.executable, "-m", "facemask_train", *command, "--pattern", "{place}_{time:%Y-%m-%d}*", "--by", "week"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    message = json.loads(ran.stdout)
    assert {"overall", "bins", "reference", "problems"} <= set(message)
    assert [one["time"] for one in message["bins"]] == ["week of 2026-11-23"] * 2
    assert Path(message["path"]).is_dir()
