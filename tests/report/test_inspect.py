"""fmask inspect: the summary compared with an independent count of the tables, and the content of the page."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.records import to_json
from facemask_train.dataset.card import EnsembleCard, ItemCounts
from facemask_train.dataset.summary import SIZE_EDGES, ImageCounts, SizeQuantiles
from facemask_train.report.dataset.inspect import inspect
from facemask_train.report.dataset.thumbnails import Mark, sample_evenly, thumbnail
from facemask_train.report.html import SERIES
from helpers.command_line import fmask
from helpers.pagecheck import Page, read_page
from helpers.twins import HOSTILE, build_as, make_twins, rewrite, table, with_copies


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_twins(tmp_path_factory.mktemp("twins"))
    build_as(root, "v1")
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A copy of the world that a test may break."""
    return Path(shutil.copytree(built, tmp_path / "root"))


def shown(root: Path, *, duplicates: bool = False) -> Page:
    return read_page(inspect(root, "v1", duplicates=duplicates).path.read_bytes())


def test_the_summary_by_hand(built: Path) -> None:
    found = inspect(built, "1")
    assert found.path == built / "data/inspect/v1.html"
    summary = found.summary
    assert summary.images == ItemCounts(total=21, kept=15, merged=2, repaired=0, refused=4)
    assert summary.split_images.total == 15
    assert summary.split_images == summary.originals
    assert summary.copies == {}
    assert summary.faces_per_image == {1: 1, 2: 14}
    assert (summary.groups.groups, summary.groups.conflicts, summary.groups.excluded) == (4, 1, 1)
    assert summary.overlap["first"] == {"first": 0, "second": 4}
    assert summary.leaks == 0
    # 6 masks of 30 px; 8 of 16 px (a quarter of 64) and one of the hostile name
    assert summary.sizes["mask"] == SizeQuantiles(
        n=15, min=16.0, p5=16.0, p25=16.0, median=16.0, p75=30.0, p95=30.0, max=30.0
    )
    bins = dict(zip(SIZE_EDGES, summary.size_histogram.faces["mask"], strict=True))
    assert {edge: count for edge, count in bins.items() if count} == {16: 9, 24: 6}
    assert {edge: n for edge, n in zip(SIZE_EDGES, summary.size_histogram.faces["no_mask"], strict=True) if n} == {
        12: 8,
        24: 6,
    }


def test_the_summary_agrees_with_the_tables(root: Path) -> None:
    folder = root / "data/ensembles/v1"
    with_copies(folder)
    summary = inspect(root, "v1").summary
    rows, issues = table(folder, "manifest"), table(folder, "issues")
    originals = [row for row in rows if not row["copy"]]
    for split in ("train", "val", "test"):
        here = [row for row in rows if row["split"] == split]
        assert summary.split_images[split] == len(here)
        assert summary.originals[split] == sum(row["split"] == split for row in originals)
        faces = Counter(label["name"] for row in here for label in row["labels"])
        assert summary.faces[split] == {"mask": faces["mask"], "no_mask": faces["no_mask"]}
        for source in ("first", "second"):
            own = [row for row in originals if (row["source"], row["split"]) == (source, split)]
            assert summary.sources[source][split] == ImageCounts(len(own), sum(len(row["labels"]) for row in own))
    train = summary.originals["train"]
    assert summary.copies == {"faces": train}
    assert summary.face_edits == {"-": {"too-small": train}, "beard": {"done": train}}
    causes = Counter((one["item"], one["action"], one["cause"]) for one in issues)
    assert {(one.item, one.action, one.cause): one.count for one in summary.issues} == causes
    assert summary.issues == EnsembleCard.load(folder).issues
    assert summary.notes == EnsembleCard.load(folder).notes


def test_the_page_has_all_sections_and_images(root: Path) -> None:
    with_copies(root / "data/ensembles/v1")
    page = shown(root)
    for title in ("Classes", "Sizes", "Sources", "Duplicates", "Edited faces", "Issues", "Augmented copies"):
        assert f"#{title.lower().replace(' ', '-')}" in page.values("a", "href"), title
    assert "Ensemble v1" in page.texts
    assert "image refused: class-conflict" in page.texts
    assert "mask is in 9 training images; at least 3,000 per class are recommended." in page.text
    # every image (15 originals, as few as they are, and the copies) and the sheet of transforms
    count = len(table(root / "data/ensembles/v1", "manifest"))
    assert page.tags.count("img") == count + 1
    for uri in page.values("img", "src"):
        image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
        assert image.size in [(96, 64), (1180, 295)]


def test_a_hostile_file_name_is_text(built: Path) -> None:
    page = shown(built)
    assert f"second · pics/{HOSTILE}.jpg" in page.texts
    assert f"second · pics/{HOSTILE}.jpg" in page.values("img", "alt")


def test_nothing_is_written_into_the_ensemble_and_the_page_is_the_same_again(built: Path) -> None:
    folder = built / "data/ensembles/v1"
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    first = inspect(built, "v1", duplicates=True).path.read_bytes()
    assert inspect(built, "v1", duplicates=True).path.read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


def test_the_least_similar_duplicates_come_first_in_the_orientation_of_the_kept_image(built: Path) -> None:
    page = shown(built, duplicates=True)
    text = page.text
    assert "All 2 groups of duplicates with a kept image, the least similar first." in text
    assert "There is one group whose labels give one face different classes. Boxes as published." in text
    assert "There is one group of which no image is kept for other reasons. Boxes as published." in text
    assert "(10, 10, 40, 40) is mask in first/images/a2.png and no_mask in second/pics/copy 2.jpg" in text
    captions = [one for one in page.texts if "pics/copy" in one and "mirrored" in one]
    assert len(captions) == 1
    assert captions[0].endswith("second · pics/copy 1.jpg")
    assert text.index("Group 1: 2 images") < text.index("Group 0: 2 images")  # its copy is a poor JPEG


def test_a_mirrored_duplicate_is_mapped_to_the_kept_image(built: Path) -> None:
    page = shown(built, duplicates=True)
    images = dict(zip(page.values("img", "alt"), page.values("img", "src"), strict=True))
    mine = next(uri for alt, uri in images.items() if alt == "first · images/a1.png")
    theirs = next(uri for alt, uri in images.items() if alt.endswith("second · pics/copy 1.jpg"))
    one, other = (decoded(uri) for uri in (mine, theirs))
    # boxes and all, the two look alike; laid mirrored they would not
    assert apart(one, other) < 12 < apart(one, [row[::-1] for row in other])


def decoded(uri: str) -> list[list[int]]:
    gray = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L")
    values = list(gray.tobytes())
    return [values[row * gray.width : (row + 1) * gray.width] for row in range(gray.height)]


def apart(one: list[list[int]], other: list[list[int]]) -> float:
    pairs = [(a, b) for mine, theirs in zip(one, other, strict=True) for a, b in zip(mine, theirs, strict=True)]
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def test_near_duplicates_have_their_own_section(root: Path) -> None:
    folder = root / "data/ensembles/v1"
    rows = table(folder, "manifest")
    train = [row for row in rows if row["split"] == "train" and row["source"] == "second"]
    train[1]["split_group"] = train[0]["split_group"]
    rewrite(folder, rows)
    assert "1 of 1 groups." in shown(root, duplicates=True).text


@pytest.mark.parametrize("lost", ["data/raw", "data/raw/second/files/pics", "data/raw/first/files/annotations"])
def test_missing_originals_get_a_message(root: Path, lost: str) -> None:
    shutil.rmtree(root / lost)
    text = shown(root, duplicates=True).text
    assert ("the file is missing" in text) == ("annotations" not in lost)
    assert "class-conflict" in text


def test_a_changed_file_is_not_shown(root: Path) -> None:
    Image.new("RGB", (96, 64)).save(root / "data/raw/second/files/pics/copy 0.jpg")
    assert "the file has changed" in shown(root, duplicates=True).text


def test_a_damaged_image_does_not_fail(root: Path) -> None:
    image = root / "data/ensembles/v1" / table(root / "data/ensembles/v1", "manifest")[0]["image"]
    image.write_bytes(b"no image")
    assert "the file cannot be read as an image" in shown(root).text


def test_an_ensemble_without_duplicates_issues_or_test(root: Path) -> None:
    folder = root / "data/ensembles/v1"
    rows = [row | {"split": "train", "labels": []} for row in table(folder, "manifest") if row["split"] == "train"]
    rewrite(folder, rows)
    rewrite(folder, [], "groups")
    rewrite(folder, [], "issues")
    found = inspect(root, "v1", duplicates=True)
    assert found.summary.sizes["mask"].median is None
    text = read_page(found.path.read_bytes()).text
    for says in ("This split is empty.", "Nothing was repaired, merged or refused.", "There is no group of duplicates"):
        assert says in text


@pytest.mark.parametrize("name", ["manifest", "groups", "issues"])
def test_a_missing_or_damaged_table_names_the_next_step(root: Path, name: str) -> None:
    path = root / f"data/ensembles/v1/{name}.parquet"
    for content in (b"PAR1", None):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(DataError, match=name) as caught:
            inspect(root, "v1")
        assert "fmask build-dataset --version v1" in caught.value.next_step


def test_an_unknown_version_names_the_nearest(built: Path) -> None:
    with pytest.raises(MissingError, match="did you mean 'v1'"):
        inspect(built, "v11")


def test_a_sample_covers_all_parts_and_is_seeded() -> None:
    assert sample_evenly([1, 2, 3], 5) == [1, 2, 3]
    found = sample_evenly(range(1000), 10)
    assert [number // 100 for number in found] == list(range(10))
    assert found == sample_evenly(range(1000), 10) != sample_evenly(range(1000), 10, seed=1)


def test_a_box_is_drawn_in_place_on_a_reduced_image(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), "white").save(tmp_path / "p.png")
    marks = [Mark("no_mask", (500.0, 100.0, 900.0, 400.0))]
    item = thumbnail(tmp_path / "p.png", marks, caption="c", longest=200)
    assert item.image is not None
    image = Image.open(io.BytesIO(base64.b64decode(item.image.uri.partition(",")[2])))
    assert image.size == (200, 100)
    orange = tuple(int(SERIES[1][at : at + 2], 16) for at in (1, 3, 5))
    for place in ((99, 50), (181, 50), (140, 18), (140, 81)):  # two pixels outside of the box
        assert max(abs(a - b) for a, b in zip(image.getpixel(place), orange, strict=True)) < 80, place
    assert min(image.getpixel((140, 50))) > 240


def test_the_command_prints_json_or_a_table(built: Path) -> None:
    ran = fmask("inspect", "v1", cwd=built, COLUMNS="80")
    assert ran.returncode == 0, ran.stderr
    assert "2 of 21 images are copies of another: merged; 1 group excluded; 1 conflict between copies; 0 leaks" in (
        ran.stdout
    )
    assert ran.stdout.splitlines()[-1] == "page: data/inspect/v1.html"
    spoken = fmask("inspect", "1", "--duplicates", "--json", cwd=built)
    data = json.loads(spoken.stdout)
    assert data["path"] == "data/inspect/v1-duplicates.html"
    assert {key: data[key] for key in data if key != "path"} == to_json(inspect(built, "v1").summary)
    again = fmask("build-dataset", "--version", "v1", cwd=built, COLUMNS="80")
    assert "Images that have a copy" in again.stdout
    assert "note: mask is in 9 training images" in again.stdout
