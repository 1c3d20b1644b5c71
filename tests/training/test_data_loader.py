"""The device loader: boxes compared with painted pixels, images with those of the package, reproducible batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.stats import ks_2samp

from facemask_train.core.config import TrainSettings, read_train_settings
from facemask_train.core.errors import DataError, TrainingError, UsageError
from facemask_train.core.recipe import read_recipe
from facemask_train.dataset.build import build
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.sources.fetch import fetch
from facemask_train.training import runs
from facemask_train.training.loading import render as batch_render
from facemask_train.training.loading.data_loader import (
    DeviceLoader,
    EpochSampler,
    MemoryStore,
    open_loader,
    resized_shape,
)
from facemask_train.training.loading.mosaic import GRAY, Ranges, batch_generator, draw_layout, ranges_of
from facemask_train.training.loading.render import mix, recolor
from facemask_train.training.plan import LoaderPlan, choose_loader, choose_memory, unsupported_settings
from facemask_train.training.train import resume, train
from helpers import shapes

CPU = torch.device("cpu")
HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIDE = 64
NOTHING = dict.fromkeys(("mosaic", "mixup", "scale", "translate", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)


@dataclass(frozen=True)
class Images:
    """The part of the package's dataset that a loader uses."""

    labels: list[dict[str, Any]]
    imgsz: int = SIDE

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def im_files(self) -> list[str]:
        return [f"{number}.jpg" for number in range(len(self))]


TURNED = Ranges(48, mosaic=0.5, degrees=20, shear=5, perspective=0.001, scale=(0.3, 1.7), translate=0.2, flipud=0.5)
COLORED = Ranges(48, mosaic=1, mixup=0.5, scale=(0.5, 1.5), translate=0.1, fliplr=0.5, hsv=(0.5, 0.9, 0.9))

Painted = tuple[tuple[int, int], tuple[int, int, int, int]]
"""An image's height and width, and the corners of the one box that is painted on it."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Keep to one thread: images this small are slower on two, and far slower where others work too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def painted_loader(images: Sequence[Painted], ranges: Ranges, **changes: Any) -> DeviceLoader:
    """Return a loader of gray images; on the i-th the box of class i is white in channel i."""
    labels, values, sizes = [], [], []
    for number, ((height, width), (x1, y1, x2, y2)) in enumerate(images):
        image = torch.full((3, height, width), GRAY, dtype=torch.uint8)
        image[number, y1:y2, x1:x2] = 255
        middle = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        labels.append({"shape": (height, width), "cls": np.array([[number]]), "bboxes": np.array([middle])})
        values.append(image.flatten())
        sizes.append((height, width))
    starts = np.cumsum([0, *(len(value) for value in values)])
    store = MemoryStore(torch.cat(values), starts, np.array(sizes), CPU)
    share = EpochSampler(len(labels), seed=changes.pop("seed", 0), rank=0, world=1)
    given = {"batch_size": len(labels), "closes_at": 1 << 30, **changes}
    return DeviceLoader(Images(labels), store, ranges, share, device=CPU, **given)


def corners_of(batch: dict[str, Any], place: int, label: int) -> np.ndarray:
    """Return the corners in pixels of an image's boxes of one class."""
    wanted = (batch["batch_idx"] == place) & (batch["cls"][:, 0] == label)
    middles, halves = batch["bboxes"][wanted, :2] * SIDE, batch["bboxes"][wanted, 2:] * SIDE / 2
    return torch.cat([middles - halves, middles + halves], dim=1).numpy()


def components(mask: np.ndarray) -> np.ndarray:
    """Return the extents of what hangs together in a mask: corners (n, 4)."""
    found = ndimage.find_objects(ndimage.label(mask)[0])
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in found]).reshape(-1, 4)


@st.composite
def painted(draw: st.DrawFn) -> Painted:
    """Three pixels at least lie between the box and the image's edge: neighbors in a mosaic do not touch."""
    other = draw(st.integers(40, SIDE))
    height, width = draw(st.sampled_from([(SIDE, other), (other, SIDE)]))
    x1, y1 = draw(st.integers(3, width - 12)), draw(st.integers(3, height - 12))
    return (height, width), (x1, y1, draw(st.integers(x1 + 8, width - 3)), draw(st.integers(y1 + 8, height - 3)))


chances = st.sampled_from([0.0, 0.5, 1.0])
three = st.tuples(painted(), painted(), painted())


mirrors = st.tuples(chances, chances)


@given(three, chances, st.floats(0.4, 1.7), st.floats(0, 0.4), mirrors, st.integers(0, 1000))
@settings(max_examples=200)
def test_boxes_match_the_painted_pixels(
    images: Sequence[Painted], mosaic: float, factor: float, shift: float, mirrors: tuple[float, float], seed: int
) -> None:
    ranges = Ranges(SIDE, mosaic=mosaic, scale=(factor, factor), translate=shift)
    ranges = replace(ranges, fliplr=mirrors[0], flipud=mirrors[1])
    batch = painted_loader(images, ranges, seed=seed).batch(0, 0)
    for place in range(3):
        for label, (_, (x1, y1, x2, y2)) in enumerate(images):
            boxes = corners_of(batch, place, label)
            seen = components(batch["img"][place, label].numpy() > (GRAY + 255) / 2)
            for box in boxes:
                assert sum(np.abs(seen - box).max(axis=1) <= 1) == 1, (box, seen)
            for extent in seen:
                wide, high = extent[2:] - extent[:2]
                whole = (x2 - x1) * (y2 - y1) * factor**2
                if min(wide, high) > 3 and wide * high > 0.2 * whole:
                    assert sum(np.abs(boxes - extent).max(axis=1) <= 1) == 1, (extent, boxes)


@given(three, chances, st.floats(0, 60), st.floats(0, 15), st.floats(0, 0.002), st.integers(0, 1000))
@settings(max_examples=60)
def test_boxes_surround_rotated_sheared_and_warped_objects(
    images: Sequence[Painted], mosaic: float, degrees: float, shear: float, perspective: float, seed: int
) -> None:
    ranges = Ranges(SIDE, mosaic=mosaic, degrees=degrees, shear=shear, perspective=perspective, scale=(0.8, 1.2))
    batch = painted_loader(images, ranges, seed=seed).batch(0, 0)
    for place in range(3):
        for label in range(3):
            boxes = corners_of(batch, place, label)
            seen = components(batch["img"][place, label].numpy() > (GRAY + 255) / 2)
            inside = boxes[(boxes.min(axis=1) > 2) & (boxes.max(axis=1) < SIDE - 2)]  # others' ends are out of sight
            for box in inside:
                assert sum(np.abs(seen - box).max(axis=1) <= 2) == 1, (box, seen)


@given(three, chances, chances, st.integers(0, 1000))
@settings(max_examples=30)
def test_mixed_in_images_bring_their_boxes(images: Sequence[Painted], mosaic: float, lr: float, seed: int) -> None:
    ranges = Ranges(SIDE, mosaic=mosaic, mixup=1.0, fliplr=lr, scale=(1.0, 1.0))
    batch = painted_loader(images, ranges, seed=seed).batch(0, 0)
    assert batch["batch_idx"].tolist() == sorted(batch["batch_idx"].tolist())
    for place in range(3):
        for label, (_, (left, top, right, bottom)) in enumerate(images):
            seen = batch["img"][place, label].numpy() > GRAY + 30
            inner, outer = np.zeros((2, SIDE, SIDE), bool)
            for x1, y1, x2, y2 in corners_of(batch, place, label).round().astype(int):
                inner[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = True
                outer[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
            assert seen[inner].all()
            for extent in components(seen & ~outer):  # nothing but slivers too small to be a box
                wide, high = extent[2:] - extent[:2]
                assert min(wide, high) <= 3 or wide * high <= 0.2 * (right - left) * (bottom - top)


WHITE = [((SIDE, 48), (10, 10, 30, 40)), ((40, SIDE), (5, 5, 50, 30)), ((SIDE, SIDE), (20, 20, 40, 44))]
ALL = Ranges(SIDE, 0.7, 0.5, 5.0, 0.1, (0.5, 1.5), 2.0, 0.0, 0.5, 0.5, (0.02, 0.7, 0.4))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["im_file"] == other["im_file"] and all(
        torch.equal(one[key], other[key]) for key in ("img", "cls", "bboxes", "batch_idx")
    )


def test_a_batch_depends_only_on_seed_epoch_and_number() -> None:
    loader = painted_loader(WHITE, ALL, batch_size=2)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first = [loader.batch(epoch, number) for epoch in range(3) for number in range(2)]
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    torch.manual_seed(5)
    again = painted_loader(WHITE, ALL, batch_size=2)
    again.set_epoch(2)
    for batch, expected in zip(again, first[4:], strict=True):
        assert same(batch, expected)
    assert same(again.batch(0, 1), first[1])
    pairs = [(one, other) for one in range(6) for other in range(one)]
    assert not any(torch.equal(first[one]["img"], first[other]["img"]) for one, other in pairs)
    assert not same(painted_loader(WHITE, ALL, batch_size=2, seed=1).batch(0, 0), first[0])


def test_a_mirrored_batch_is_the_mirror_image_of_the_batch() -> None:
    ranges = replace(ALL, mixup=1.0, fliplr=0.0, flipud=0.0)
    plain = painted_loader(WHITE, ranges).batch(0, 0)
    for axis, change in ((3, {"fliplr": 1.0}), (2, {"flipud": 1.0})):
        found = painted_loader(WHITE, replace(ranges, **change)).batch(0, 0)
        apart = (found["img"].flip(axis).int() - plain["img"].int()).abs()
        assert apart.max() <= 2
        expected = plain["bboxes"].clone()
        expected[:, 3 - axis] = 1 - expected[:, 3 - axis]
        assert torch.allclose(found["bboxes"], expected, atol=1e-5)
        assert torch.equal(found["cls"], plain["cls"])


def test_mixed_in_images_are_mirrored_like_their_targets() -> None:
    own, sizes = np.arange(40) % 3, np.array([size for size, _ in WHITE])
    ranges = Ranges(SIDE, mosaic=0.5, mixup=0.6, fliplr=0.4, flipud=0.2)
    layout = draw_layout(own, sizes, ranges, np.random.default_rng(0))
    signs = np.sign(layout.matrices[:, [0, 1], [0, 1]])
    assert 0 < len(layout.mixed) < 40
    assert (signs[40:] == signs[layout.mixed]).all()
    assert (layout.images[:40, 0] == own).all()
    assert 0 < (signs[:40, 1] < 0).sum() < (signs[:40, 0] < 0).sum() < 40
    assert 0.3 < layout.weights.min() < 0.5 < layout.weights.max() < 0.7


def test_every_image_occurs_once_per_epoch_and_ranks_share_them() -> None:
    for count, world in ((7, 1), (8, 2), (7, 2), (3, 4), (1, 3)):
        shares = [EpochSampler(count, seed=3, rank=rank, world=world) for rank in range(world)]
        assert {len(share.indices(0)) for share in shares} == {len(shares[0])}
        whole = sorted(np.concatenate([share.indices(4) for share in shares]).tolist())
        assert set(whole) == set(range(count))
        assert len(whole) - count < world
        orders = [tuple(np.stack([share.indices(epoch) for share in shares], 1).ravel()[:count]) for epoch in range(4)]
        assert count < 3 or len(set(orders)) > 1
    loader = painted_loader(WHITE, ALL, batch_size=2)
    assert sorted(name for batch in loader for name in batch["im_file"]) == ["0.jpg", "1.jpg", "2.jpg"]
    ranks = [painted_loader(WHITE, ALL, batch_size=2) for _ in range(2)]
    for rank, other in enumerate(ranks):
        other.sampler = EpochSampler(3, seed=0, rank=rank, world=2)
    assert not same(ranks[0].batch(0, 0), ranks[1].batch(0, 0))


def test_an_incomplete_last_batch_can_be_dropped() -> None:
    lengths = {
        drop: [len(batch["img"]) for batch in painted_loader(WHITE, ALL, batch_size=2, drop_last=drop)]
        for drop in (False, True)
    }
    assert lengths == {False: [2, 1], True: [2]}
    assert len(painted_loader(WHITE, ALL, batch_size=5, drop_last=True)) == 1  # there is no full one


def test_mosaic_and_mixup_end_when_they_close() -> None:
    loader = painted_loader(WHITE, replace(ALL, mosaic=1.0, mixup=1.0), closes_at=2)
    plain = painted_loader(WHITE, ALL.closed())
    assert not same(loader.batch(1, 0), plain.batch(1, 0))
    assert same(loader.batch(2, 0), plain.batch(2, 0))


def test_hyperparameters_mean_the_same_as_in_the_package() -> None:
    given = {"imgsz": 96, "mosaic": 1, "mixup": 0.1, "degrees": 3, "translate": 0.2, "shear": 1, "perspective": 0}
    given |= {"fliplr": 0.5, "flipud": 0, "hsv_h": 0.1, "hsv_s": 0.2, "hsv_v": 0.3}
    assert ranges_of({**given, "scale": 0.3}).scale == (0.7, 1.3)
    found = ranges_of({**given, "scale": (0.2, 0.9)})
    assert (found.scale, found.hsv, found.size, found.mosaic) == ((0.2, 0.9), (0.1, 0.2, 0.3), 96, 1.0)


def test_hsv_changes_equal_those_of_the_package() -> None:
    open_ultralytics()
    from ultralytics.data.augment import RandomHSV

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plain = np.array([[[0, 0, 0], [255, 255, 255], [114, 114, 114], [255, 0, 0], [10, 200, 30]]], np.uint8)
    for image in (noise, plain, noise // 4, 255 - noise // 4):
        for seed in range(8):
            np.random.seed(seed)
            gains = np.random.uniform(-1, 1, 3) * [0.015, 0.7, 0.4]
            np.random.seed(seed)
            expected = RandomHSV(0.015, 0.7, 0.4).apply_image({"img": image[..., ::-1].copy()})["img"][..., ::-1]
            found = recolor(torch.from_numpy(image).permute(2, 0, 1)[None], gains[None])[0].permute(1, 2, 0).numpy()
            apart = np.abs(found.astype(int) - expected)
            assert apart.mean() < 1.5, (seed, apart.mean())  # the package rounds down, the hue to 2 degrees
            assert apart.max() <= 12, (seed, apart.max())
    still = torch.from_numpy(noise).permute(2, 0, 1)[None]
    assert torch.equal(recolor(still, np.zeros((1, 3))), still)


def test_mixup_equals_that_of_the_package() -> None:
    open_ultralytics()
    from ultralytics.data.augment import MixUp

    one, other = (np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8) for seed in range(2))
    for weight in (0.3, 0.5, 0.61):
        given = {"img": one.copy(), "mix_labels": [{"img": other}]}
        expected = MixUp(Images([])).apply_image(given, {"r": weight})["img"]  # type: ignore[arg-type]
        batch = torch.from_numpy(np.stack([other, one]))
        found = mix(batch, torch.from_numpy(other)[None], np.array([1]), np.array([weight]))
        assert np.abs(found[1].numpy().astype(int) - expected).max() <= 1
        assert torch.equal(found[0], batch[0])


def package_dataset(folder: Path, size: int, **changes: Any) -> tuple[Any, Any]:
    """Return the package's dataset of an ensemble's training split, and the trainer's settings."""
    open_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    given = {"imgsz": size, "augmentations": [], "workers": 2, "data": str(folder / "data.yaml"), **changes}
    args = get_cfg(overrides=given)
    data = check_det_dataset(str(folder / "data.yaml"))
    return build_yolo_dataset(args, data["train"], 8, data, mode="train", stride=32), args


def odd_ensemble(root: Path) -> Path:
    """Draw an ensemble in which some images are of other, odd shapes."""
    folder = shapes.draw_ensemble(root, counts=(6, 1, 0))
    for number, size in enumerate([(121, 90), (77, 120), (64, 64), (300, 11)]):
        path = folder / "images" / "train" / f"p{number:03d}.jpg"
        Image.open(path).resize(size).save(path, quality=95)
    return folder


def test_without_augmentation_images_are_letterboxed_as_in_the_package(tmp_path: Path) -> None:
    dataset, args = package_dataset(odd_ensemble(tmp_path), SIDE, **NOTHING)
    from ultralytics.data.augment import Format, LetterBox

    loader = open_loader(dataset, args, CPU, batch_size=4, epochs=5)
    finish = Format(bbox_format="xywh", normalize=True, batch_idx=True)
    seen = 0
    for batch in loader:
        for place, name in enumerate(batch["im_file"]):
            number = dataset.im_files.index(name)
            expected = finish(LetterBox((SIDE, SIDE))(dataset.get_image_and_label(number)))
            assert (batch["img"][place].int() - expected["img"].int()).abs().max() <= 1
            mine = batch["batch_idx"] == place
            large = (expected["bboxes"][:, 2:] * SIDE > 2).all(dim=1)  # what the package's training keeps
            assert torch.allclose(batch["bboxes"][mine], expected["bboxes"][large].float(), atol=1e-5)
            assert torch.equal(batch["cls"][mine], expected["cls"][large].float())
            seen += 1
    assert seen == len(dataset) == 6


def test_batches_do_not_depend_on_where_images_are_kept(tmp_path: Path) -> None:
    dataset, args = package_dataset(odd_ensemble(tmp_path), SIDE, mixup=0.5)
    loaders = [
        open_loader(dataset, args, HERE, batch_size=4, epochs=5, memory=memory) for memory in ("device", "host", "disk")
    ]
    for number in range(2):
        first, *others = (loader.batch(1, number) for loader in loaders)
        assert all(same(first, other) for other in others)
    loaders[1].set_epoch(1)
    assert all(same(batch, loaders[0].batch(1, number)) for number, batch in enumerate(loaders[1]))
    assert not dataset.buffer  # the package's own memory of images is not filled beside ours
    loaders[0].close()
    assert same(loaders[0].batch(0, 0), loaders[1].batch(0, 0))


@pytest.mark.parametrize("ranges", [Ranges(48), TURNED, COLORED])
def test_the_kernels_render_the_same_images_as_torch(ranges: Ranges, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = pytest.importorskip("facemask_train.training.loading.kernels")  # Triton comes with torch on Linux
    rng = np.random.default_rng(5)
    shapes = np.column_stack([rng.integers(12, 49, 9), np.full(9, 48)])
    images = [torch.from_numpy(rng.integers(0, 256, (3, *shape), dtype=np.uint8)).to(HERE) for shape in shapes]
    layout = draw_layout(np.arange(6), shapes, ranges, batch_generator(0, 0, 0, 0))

    def rendered(with_kernels: Any) -> torch.Tensor:
        monkeypatch.setattr(batch_render, "load_kernels", lambda _device: with_kernels)
        return batch_render.render(layout, lambda numbers: [images[number] for number in numbers], 48, HERE).int()

    apart = (rendered(kernels) - rendered(None)).abs()
    assert apart.max() <= 12  # a hue that a rounding moves
    assert (apart > 0).float().mean() < 0.002


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    folder = odd_ensemble(tmp_path)
    dataset, args = package_dataset(folder, SIDE)
    (folder / "images/train/p002.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"p002\.jpg: cannot be read"):
        open_loader(dataset, args, CPU, batch_size=4, epochs=5)
    Image.new("RGB", (10, 90)).save(folder / "images/train/p002.jpg")
    with pytest.raises(DataError, match=r"p002\.jpg: expected a color image of \(64, 64\)"):
        open_loader(dataset, args, CPU, batch_size=4, epochs=5)


def test_images_are_kept_in_the_nearest_memory_with_enough_space() -> None:
    assert choose_memory(10, 20, 0) == "device"
    assert choose_memory(11, 20, 22) == "host"
    assert choose_memory(11, 20, 21) == "disk"
    assert resized_shape((300, 400), 640) == (480, 640)
    assert resized_shape((1, 3000), 640) == (1, 640)


DEFAULTS = {"cutmix": 0.0, "copy_paste": 0.0, "bgr": 0.0, "rect": False, "cache": False, "time": None, "erasing": 0.4}


@pytest.mark.parametrize(
    ("change", "unsupported"),
    [
        ({"cutmix": 0.1}, "cutmix=0.1"),
        ({"copy_paste": 0.2}, "copy_paste=0.2"),
        ({"bgr": 0.5}, "bgr=0.5"),
        ({"rect": True}, "rect=True"),
        ({"cache": "ram"}, "cache=ram"),
        ({"time": 2}, "time=2"),
        ({"augmentations": None}, "augmentations"),
        ({"augmentations": [{}]}, "augmentations"),
    ],
)
def test_unsupported_settings_use_the_stock_loader(change: dict[str, Any], unsupported: str) -> None:
    args = {**DEFAULTS, "augmentations": [], **change}
    assert unsupported_settings(args) == [unsupported]
    for wanted in ("auto", "device"):
        choice = choose_loader(wanted, args, gpu=True)  # type: ignore[arg-type]
        assert (choice.kind, unsupported in choice.reason) == ("stock", True)


def test_the_loader_is_the_requested_one_or_the_one_for_the_device() -> None:
    args = {**DEFAULTS, "augmentations": []}
    assert unsupported_settings(args) == []
    found = [
        (wanted, gpu, choose_loader(wanted, args, gpu=gpu).kind)  # type: ignore[arg-type]
        for wanted in ("auto", "device", "stock")
        for gpu in (False, True)
    ]
    assert found == [
        ("auto", False, "stock"),
        ("auto", True, "device"),
        ("device", False, "device"),
        ("device", True, "device"),
        ("stock", False, "stock"),
        ("stock", True, "stock"),
    ]
    with pytest.raises(UsageError, match="loader"):
        read_train_settings(Path(), "train", {"loader": "fast"})


@pytest.mark.slow
def test_training_uses_every_epoch_and_a_resumed_run_keeps_its_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes.draw_ensemble(tmp_path, counts=(12, 2, 0))
    batches_made: list[tuple[int, int]] = []
    made = DeviceLoader.batch

    def cut_once(self: DeviceLoader, epoch: int, number: int) -> dict[str, Any]:
        batches_made.append((epoch, number))
        if batches_made == [(0, 0), (0, 1), (1, 0), (1, 1)]:
            raise RuntimeError("the power was cut")
        return made(self, epoch, number)

    monkeypatch.setattr(DeviceLoader, "batch", cut_once)
    fixed = {"weights": "yolov5n.yaml", "epochs": 2, "imgsz": SIDE, "batch": 8, "device": "cpu", "workers": 0}
    extra = {"nbs": 8, "mosaic": 0.5, "close_mosaic": 1}
    wanted = TrainSettings(**fixed, optimizer="AdamW", lr0=0.003, loader="device", extra=extra)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="the power was cut"):
        train(tmp_path, wanted, name="r", tracker="none")
    folder = tmp_path / "runs" / "r"
    record = runs.read_run(folder)
    assert record.plan is not None
    assert record.plan.loader == LoaderPlan("device", "requested")
    replace(record, settings=wanted.model_copy(update={"loader": "stock"})).save(folder)
    resume(tmp_path, "r")
    assert batches_made[4:] == [(1, 0), (1, 1)]
    assert runs.read_run(folder).state == "finished"


def drawn(loader: Any, count: int, skipped: int) -> dict[str, np.ndarray]:
    """Return what `count` images of a loader are like, after the first ones."""
    found: dict[str, list[np.ndarray]] = {}
    seen = 0
    while seen < skipped + count:
        for batch in loader:
            seen += len(batch["img"])
            if skipped < seen <= skipped + count:
                for key, values in statistics(batch).items():
                    found.setdefault(key, []).append(values)
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(loader.sampler.epoch + 1)
    return {key: np.concatenate(values) for key, values in found.items()}


def statistics(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    images, boxes = batch["img"].float().flatten(2), batch["bboxes"].numpy()
    counts = torch.bincount(batch["batch_idx"].long(), minlength=len(images)).numpy()
    colors = {f"mean {name}": images.mean(2)[:, i].numpy() for i, name in enumerate("RGB")}
    spreads = {f"spread {name}": images.std(2)[:, i].numpy() for i, name in enumerate("RGB")}
    sides = {"area": boxes[:, 2] * boxes[:, 3], "aspect": (boxes[:, 2] / boxes[:, 3]).round(2)}
    return {**colors, **spreads, **sides, "boxes": counts, "x": boxes[:, 0], "y": boxes[:, 1]}


LARGEST = 0.1  # distance of two cumulative distributions; 3 in 1,000 pairs of 640 images alike are farther apart
MANY = {"mosaic": 0.5, "mixup": 0.3, "degrees": 10.0, "shear": 5.0, "perspective": 0.0005, "flipud": 0.3}


def test_images_and_boxes_have_the_distribution_of_the_stock_loader(tmp_path: Path) -> None:
    compare_with_stock(shapes.draw_ensemble(tmp_path, counts=(48, 1, 0)), MANY, size=SIDE, count=640)


@pytest.mark.slow
def test_the_same_on_the_built_in_sample(tmp_path: Path) -> None:
    fetch(tmp_path, read_recipe(tmp_path, "sample").sources)
    folder = build(tmp_path, "sample").path
    for changes in ({}, MANY):
        compare_with_stock(folder, changes, size=192, count=960)


def compare_with_stock(folder: Path, changes: dict[str, float], *, size: int, count: int) -> None:
    dataset, args = package_dataset(folder, size, **changes)
    from ultralytics.data import build_dataloader
    from ultralytics.utils.torch_utils import init_seeds

    init_seeds(0)
    stock = drawn(build_dataloader(dataset, 8, 0, True, -1, device=CPU), count, skipped=96)  # its memory fills first
    mine = drawn(open_loader(dataset, args, CPU, batch_size=8, epochs=1 << 30), count, skipped=0)
    apart = {key: float(ks_2samp(stock[key], mine[key]).statistic) for key in stock}
    assert max(apart.values()) < LARGEST, apart
    # and the comparison notices what is not alike
    other, others = package_dataset(folder, size, **{**changes, "scale": 0.1, "hsv_v": 0.0, "translate": 0.4})
    wrong = drawn(open_loader(other, others, CPU, batch_size=8, epochs=1 << 30), count // 2, skipped=0)
    for key in ("area" if changes.get("mosaic", 1) else "y", "mean R"):
        assert ks_2samp(stock[key], wrong[key]).statistic > LARGEST, key
