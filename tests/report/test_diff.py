"""fmask diff: images added, removed, moved and relabeled between small ensembles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from facemask_train.core.errors import DataError, MissingError
from facemask_train.report.dataset.diff import diff
from helpers.command_line import fmask
from helpers.pagecheck import read_page
from helpers.twins import build_as, make_twins, rewrite, table, with_copies


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_twins(tmp_path_factory.mktemp("twins"))
    build_as(root, "v1")
    build_as(root, "first-alone", sources=["first"])
    build_as(root, "reversed", sources=["second", "first"])
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A copy of the world, with a second `v2` that is equal to `v1` until a test changes it."""
    copy = Path(shutil.copytree(built, tmp_path / "root"))
    shutil.copytree(copy / "data/ensembles/v1", copy / "data/ensembles/v2")
    return copy


def names(changes: tuple) -> list[str]:
    return [f"{one.image.source}/{one.image.source_image}" for one in changes]


def test_an_ensemble_equals_itself(root: Path) -> None:
    for other in ("1", "v2"):
        found = diff(root, "v1", other)
        assert (found.equal, found.same) == (True, 15)
        page = read_page(found.path.read_bytes())
        assert "Both are equal: 15 images with the same labels in the same splits." in page.texts
    assert found.path == root / "data/inspect/v1-v2.html"


def test_removed_images_have_a_reason(built: Path) -> None:
    found = diff(built, "v1", "reversed")
    # of copies, the one of the source named first is kept: a0 and a1 give way to their copies
    assert names(found.removed) == ["first/images/a0.png", "first/images/a1.png"]
    assert found.reasons(found.removed) == {"merged: copy": 2}
    assert {one.detail for one in found.removed} == {"of second/pics/copy 0.jpg", "of second/pics/copy 1.jpg"}
    assert sorted(names(found.added)) == ["second/pics/copy 0.jpg", "second/pics/copy 1.jpg"]
    assert found.reasons(found.added) == {"merged: copy": 2}
    text = read_page(found.path.read_bytes()).text
    assert "reason why it is missing" in text
    assert "of second/pics/copy 0.jpg" in text


def test_a_source_that_is_left_out_is_named(built: Path) -> None:
    found = diff(built, "v1", "first-alone")
    assert found.reasons(found.removed) == {"second is not a source of first-alone": 9}
    # a2 comes back: nothing contradicts it any more
    assert names(found.added) == ["first/images/a2.png"]
    assert found.reasons(found.added) == {"refused: class-conflict": 1}


def test_moved_images_are_counted_by_direction(root: Path) -> None:
    folder = root / "data/ensembles/v2"
    rows = table(folder, "manifest")
    moved = [row for row in rows if row["split"] == "train"][:2]
    for row in moved:
        row["split"] = "test"
    rewrite(folder, rows)
    found = diff(root, "v1", "v2")
    assert sorted(names(found.moved)) == sorted(f"{row['source']}/{row['source_image']}" for row in moved)
    assert found.moves() == {"train to test": 2}
    assert (len(found.added), len(found.removed), len(found.relabeled), found.same) == (0, 0, 0, 13)
    assert "train → test" in read_page(found.path.read_bytes()).texts


@pytest.mark.parametrize(
    ("change", "relabeled"),
    [
        (lambda labels: labels[0].update(name="no_mask"), 1),
        (lambda labels: labels[0].update(x_max=labels[0]["x_max"] + 0.02), 1),
        (lambda labels: labels[0].update(x_max=labels[0]["x_max"] + 0.009), 0),
        (lambda labels: labels.pop(), 1),
        (lambda labels: labels.append(dict(labels[0])), 1),
        (lambda labels: labels.reverse(), 0),
    ],
)
def test_relabeled_means_another_class_or_a_box_moved_by_more_than_a_hundredth(
    root: Path, change: object, relabeled: int
) -> None:
    folder = root / "data/ensembles/v2"
    rows = table(folder, "manifest")
    row = next(row for row in rows if row["source_image"] == "images/a5.png")
    change(row["labels"])  # type: ignore[operator]
    rewrite(folder, rows)
    found = diff(root, "v1", "v2")
    assert names(found.relabeled) == ["first/images/a5.png"] * relabeled
    assert found.equal is not bool(relabeled)
    page = read_page(found.path.read_bytes())
    assert page.tags.count("img") == 2 * relabeled  # before and after, side by side


def test_another_file_with_the_same_labels_is_redrawn(root: Path) -> None:
    folder = root / "data/ensembles/v2"
    rows = table(folder, "manifest")
    rows[0]["output_sha256"] = "f" * 64
    rewrite(folder, rows)
    found = diff(root, "v1", "v2")
    assert (len(found.redrawn), found.same, found.equal) == (1, 14, False)


def test_copies_are_counted_by_name_in_both_directions(root: Path) -> None:
    folder = root / "data/ensembles/v2"
    with_copies(folder)
    train = sum(row["copy"] == "faces" for row in table(folder, "manifest"))
    there, back = diff(root, "v1", "v2"), diff(root, "v2", "v1")
    assert [(one.name, one.added, one.removed, one.changed) for one in there.copies] == [("faces", train, 0, 0)]
    assert [(one.name, one.added, one.removed, one.changed) for one in back.copies] == [("faces", 0, train, 0)]
    assert (there.same, there.equal) == (15, False)
    assert f"Added “faces”: {train} of {train}" in read_page(there.path.read_bytes()).texts
    shutil.copytree(folder, root / "data/ensembles/v3")
    rows = table(root / "data/ensembles/v3", "manifest")
    next(row for row in rows if row["copy"])["output_sha256"] = "1" * 64
    rewrite(root / "data/ensembles/v3", rows)
    assert [one.changed for one in diff(root, "v2", "v3").copies] == [1]


def test_missing_images_do_not_fail(root: Path) -> None:
    shutil.rmtree(root / "data/ensembles/v1/images")
    text = read_page(diff(root, "v1", "reversed").path.read_bytes()).text
    assert "the file is missing" in text


def test_wrong_names_and_broken_tables(root: Path) -> None:
    with pytest.raises(MissingError, match="did you mean 'reversed'"):
        diff(root, "v1", "revresed")
    (root / "data/ensembles/v2/issues.parquet").unlink()
    with pytest.raises(DataError, match="issues"):
        diff(root, "v1", "v2")


def test_the_command_prints_json_or_a_table(built: Path) -> None:
    ran = fmask("diff", "v1", "reversed", cwd=built, COLUMNS="80")
    assert ran.returncode == 0, ran.stderr
    assert "now, merged: copy" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "page: data/inspect/v1-reversed.html"
    data = json.loads(fmask("diff", "1", "reversed", "--json", cwd=built).stdout)
    assert {key: data[key] for key in ("added", "removed", "relabeled", "equal", "path")} == {
        "added": 2, "removed": 2, "relabeled": 0, "equal": False, "path": "data/inspect/v1-reversed.html",
    }  # fmt: skip
    assert isinstance(data["moved"], int)
    assert "v1 and v1 are equal: 15 images" in fmask("diff", "v1", "v1", cwd=built).stdout
    assert fmask("diff", "v1", "v1", "--quiet", cwd=built).stdout == ""
