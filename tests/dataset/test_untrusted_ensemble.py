"""Ensembles made by a stranger cannot run code or lead outside of their folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from facemask_train.apps.export.export import export
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError
from facemask_train.core.files import check_name, inside
from facemask_train.dataset.contents import read_contents
from facemask_train.dataset.versions import read_ensemble, write_trusted_yaml
from facemask_train.eval.audit import audit
from facemask_train.eval.evaluate import evaluate
from facemask_train.training.train import train
from helpers.shapes import draw_ensemble
from helpers.untrained import write_model


def train_on(root: Path, ensemble: Path) -> None:
    train(
        root,
        TrainSettings(weights="yolov5n.yaml", epochs=1, imgsz=64, device="cpu"),
        data=str(ensemble),
        tracker="none",
    )


def evaluate_on(root: Path, ensemble: Path) -> None:
    evaluate(root, weights=root / "w.pt", data=str(ensemble), device="cpu", tracker="none", audit=False)


def audit_on(root: Path, ensemble: Path) -> None:
    audit(root, weights=root / "w.pt", data=str(ensemble), device="cpu", tracker="none")


def export_on(root: Path, ensemble: Path) -> None:
    export(root, weights=root / "w.pt", data=str(ensemble), formats=("onnx",))


DOORS = {"train": train_on, "evaluate": evaluate_on, "audit": audit_on, "export": export_on}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    write_model(path, imgsz=64)
    return path


@pytest.fixture
def root(tmp_path: Path, weights: Path) -> Path:
    """A root with a checkpoint of ours; what lies above it must stay untouched."""
    root = tmp_path / "above" / "root"
    draw_ensemble(root, counts=(2, 1, 1))
    shutil.copy(weights, root / "w.pt")
    return root


def read_v5(root: Path) -> None:
    read_contents(root, "v5")


def audit_v5(root: Path) -> None:
    audit_on(root, root / "data/ensembles/v5")


def outside(root: Path) -> list[str]:
    """Return every file above a root."""
    return sorted(str(path) for path in root.parent.rglob("*") if not path.is_relative_to(root))


@pytest.mark.parametrize("door", DOORS)
def test_a_script_in_data_yaml_is_never_run(root: Path, door: str) -> None:
    ensemble, sprung = root / "data/ensembles/v5", root / "sprung"
    data = yaml.safe_load((ensemble / "data.yaml").read_text())
    script = f"open({str(sprung)!r}, 'w').close()"
    (ensemble / "data.yaml").write_text(yaml.safe_dump(data | {"val": "images/gone", "download": script}))
    with pytest.raises(DataError, match=r"data\.yaml: expected the keys train, val, test, names, found also: download"):
        DOORS[door](root, ensemble)
    assert not sprung.exists()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "name", ["../../../x", "/tmp/x", "..", "a/b", "a\\b", "", ".hidden", None, 5, "x\n", "x" * 200]
)
def test_an_ensembles_name_cannot_be_a_path(root: Path, door: str, name: object) -> None:
    ensemble = root / "data/ensembles/v5"
    card = json.loads((ensemble / "ensemble.json").read_text())
    (ensemble / "ensemble.json").write_text(json.dumps(card | {"name": name}))
    before = outside(root)
    with pytest.raises(
        DataError, match=r"ensemble\.json: name: (expected a name of letters|input should be a valid string)"
    ):
        DOORS[door](root, ensemble)
    assert outside(root) == before


@pytest.mark.parametrize("entry", ["../../..", "/etc", "images", ["images/train"], "https://example.org/x.zip", 3])
def test_images_are_where_fmask_writes_them(root: Path, entry: object) -> None:
    ensemble = root / "data/ensembles/v5"
    data = yaml.safe_load((ensemble / "data.yaml").read_text())
    (ensemble / "data.yaml").write_text(yaml.safe_dump(data | {"train": entry}))
    with pytest.raises(DataError, match=r"expected images/train under 'train', found"):
        read_ensemble(ensemble)


def test_a_folder_of_images_that_links_elsewhere_is_refused(root: Path) -> None:
    ensemble = root / "data/ensembles/v5"
    (ensemble / "images/val").rename(root / "elsewhere")
    (ensemble / "images/val").symlink_to(root / "elsewhere")
    with pytest.raises(DataError, match="expected a path inside"):
        read_ensemble(ensemble)


@pytest.mark.parametrize("image", ["../../../w.pt", "/etc/hostname", ""])
@pytest.mark.parametrize(
    "reader", [lambda root: read_contents(root, "v5"), lambda root: audit_on(root, root / "data/ensembles/v5")]
)
def test_images_of_the_manifest_are_inside_the_ensemble(
    root: Path, image: str, reader: Callable[[Path], object]
) -> None:
    manifest = root / "data/ensembles/v5/manifest.parquet"
    rows = pq.read_table(manifest).to_pylist()
    extra = ("copy", "source", "source_image", "operation", "sha256", "output_sha256", "key", "group")
    fill = dict.fromkeys(extra, "") | {"edits": []}
    pq.write_table(pa.Table.from_pylist([fill | {**rows[-1], "image": image}]), manifest)
    with pytest.raises(DataError, match=r"expected a path inside|expected the table"):
        reader(root)


def test_the_package_reads_only_fmasks_yaml(root: Path, tmp_path: Path) -> None:
    ensemble = root / "data/ensembles/v5"
    path = write_trusted_yaml(ensemble, tmp_path / "data.yaml", ("train", "val"))
    assert yaml.safe_load(path.read_text()) == {
        "train": str(ensemble / "images/train"),
        "val": str(ensemble / "images/val"),
        "names": {0: "mask", 1: "no_mask"},
    }


@pytest.mark.parametrize("name", ["v5", "sample", "my-set_2.1", "8", "a+b", "Ä1"])
def test_usual_names_are_accepted(name: str) -> None:
    assert check_name(name, "here") == name


def test_a_path_inside_is_returned(tmp_path: Path) -> None:
    assert inside(tmp_path, "images/train/a.jpg", "here") == tmp_path / "images/train/a.jpg"
    assert inside(tmp_path, "a/../b", "here") == tmp_path / "a/../b"
