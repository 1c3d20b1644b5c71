"""A YOLOv5n checkpoint whose weights are set by hand, so that its detections are known in advance.

It finds upright rectangles of one color on a gray background, at 64 px. No training is involved, and every decision
has a wide margin, so it answers the same on any processor and in any backend.

The color of a rectangle (`color`) says what the detector answers:

    green            the lightness, which sets the confidence
    blue - green     the share of `mask`:    0.6 times the share
    red - green      the share of `no_mask`: 0.6 times the rest

Gray has neither share, so nothing is found there. A rectangle of both shares is answered with both classes.

How it works. `silu(x) - silu(-x) = x`, so a pair of channels carries a number x through a layer unchanged; such a pair
is a "line" here. The first layers turn color into the lines `mask`, `no_mask` and `light`, and sum the colored pixels
of each cell along the row and the column through the middle of the cell. The layers of the head add up the sums of the
neighbor cells: the distances from an anchor to the four edges. The last layer writes a distance d as the logits
-(k - d)^2 * SHARPNESS over the bins k, whose softmax has the mean d. Anchors that a rectangle covers only in part are
ruled out by a penalty. Of the others those further left and further up are preferred, so there are no ties.

All other weights are random, as `ultralytics` draws them from seed 0, and have no part in any answer.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facemask_train.core.types import CLASSES
from facemask_train.model.ultralytics_compat import open_ultralytics

IMGSZ = 64
CONTRAST = 0.6
"""How far the two colored channels of a rectangle together lie above green; channels run from 0 to 1."""

LIGHTEST = 0.4
"""The lightness of a rectangle runs from 0 to this."""

LONGEST = 20
"""The longest side, in pixels of the network's input, that every anchor sees whole."""

SHARPNESS = 2.0
PER_LIGHT, PER_SHARE = 10.0, 2.0
LEFT, UP = 0.04, 0.065
"""By how much a pixel further left (up) raises an anchor's logit."""

STEEP, WHOLE, SHARE = 200.0, 0.9, 0.35
"""The penalty for each missing part of a cell below `WHOLE`, and for each missing part of a class below `SHARE`."""

KEPT = [*range(24), "24.cv3.0"]
"""What a training has to freeze (`freeze`) so that it keeps finding what is known, though its boxes may drift."""

Line = dict[str, ArrayLike]
"""A sum over lines of the layer before: the kernel (k, k) of each."""

LEFT_EDGE, MIDDLE, RIGHT_EDGE, UPPER_EDGE, LOWER_EDGE = (
    np.eye(9)[place].reshape(3, 3).tolist() for place in (3, 4, 5, 1, 7)
)


def color(mask: float, light: float = 0.2) -> tuple[int, int, int]:
    """Return the RGB color of a rectangle with this share of `mask`, the rest being `no_mask`."""
    assert 0 <= mask <= 1
    assert 0 <= light <= LIGHTEST
    red, blue = light + CONTRAST * (1 - mask), light + CONTRAST * mask
    return round(255 * red), round(255 * light), round(255 * blue)


def confidence(name: str, mask: float, light: float) -> float:
    """Return the confidence that `color(mask, light)` is answered with for a class, but for the anchor's place.

    The place takes up to 1.05 from the logit: LEFT and UP for each of the at most 10 pixels to the left and upper edge.
    """
    own = mask if name == "mask" else 1 - mask
    logit = PER_SHARE * (2 * own - 1) + PER_LIGHT * (light - LIGHTEST / 2) - STEEP * max(0.0, SHARE - own)
    return 1 / (1 + math.exp(-max(logit, -50.0)))


@functools.cache
def known_weights() -> Path:
    """Return the checkpoint; written once for all tests of a process."""
    path = Path(tempfile.mkdtemp(prefix="fmask-known-")) / "best.pt"
    write_known(path)
    return path


def write_known(path: Path) -> None:
    """Write the checkpoint as `ultralytics` leaves one after training at 64 px."""
    import torch

    open_ultralytics()
    model = build_network()
    model.args = {"imgsz": IMGSZ, "task": "detect"}
    torch.save({"model": model, "train_args": {"imgsz": IMGSZ, "task": "detect"}}, path)


def build_network() -> Any:
    """Return the network, in evaluation mode."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DetectionModel("yolov5n.yaml", nc=len(CLASSES), verbose=False)
    network.names = dict(enumerate(CLASSES))
    with torch.no_grad():
        lines = _set_backbone(network.model)
        _set_boxes(network.model[-1].cv2[0], lines)
        _set_classes(network.model[-1].cv3[0], lines)
        for branch in network.model[-1].cv3[1:]:
            branch[-1].weight.zero_()
            branch[-1].bias.fill_(-20)  # the two coarser grids find nothing
    return network.eval()


# ---- the layers ----


def _set_backbone(layers: Any) -> list[str]:
    """Set the layers up to the head's finest grid (8 px); return the lines that arrive there."""
    own_pixels = np.zeros((6, 6))
    own_pixels[2:4, 2:4] = 1 / 4
    share = own_pixels / CONTRAST
    rgb = np.eye(3)[:, :, None, None]  # red, green, blue: (1, 1) to be spread over a kernel
    first = {
        "mask": (rgb[2] - rgb[1]) * share,
        "no_mask": (rgb[0] - rgb[1]) * share,
        "light": rgb[1] * own_pixels,
    }
    _set_input(layers[0], first)
    lines = list(first)

    # 2 to 4 px: the lower right pixel of each cell; its row and its column, 2 px for each colored cell.
    corner, row, column = np.zeros((3, 3, 3))
    corner[2, 2] = 1
    row[2, 1:] = column[1:, 2] = 2
    both = ("mask", "no_mask")
    second: dict[str, Line] = {name: {name: corner} for name in lines}
    second |= {"row": dict.fromkeys(both, row), "column": dict.fromkeys(both, column)}
    lines = _set_lines(layers[1], lines, second)
    lines = _pass_c3(layers[2], lines)

    # 4 to 8 px: the middle of each cell lies between the 4-px cells (1, 1) and (2, 2) of the kernel.
    third: dict[str, Line] = {name: {name: MIDDLE} for name in first}
    third |= {"left": {"row": MIDDLE}, "right": {"row": RIGHT_EDGE}}
    third |= {"up": {"column": MIDDLE}, "down": {"column": LOWER_EDGE}}
    lines = _set_lines(layers[3], lines, third)
    lines = _pass_c3(layers[4], lines)
    return _pass_c3(layers[17], lines, skip=layers[17].cv2.conv.in_channels // 2)


SIDES = {
    "left": (LEFT_EDGE, "right"),
    "up": (UPPER_EDGE, "down"),
    "right": (RIGHT_EDGE, "left"),
    "down": (LOWER_EDGE, "up"),
}
"""A side of a cell: the kernel that takes the neighbor there, and the opposite side."""


def _own_and_next(side: str) -> dict[str, Line]:
    """Return the sum to a side within a cell, and the sum over the whole cell and its neighbor there."""
    toward, opposite = SIDES[side]
    two = np.array(MIDDLE) + np.array(toward)
    return {side: {side: MIDDLE}, f"{side} of two": {side: two, opposite: two}}


def _distance(side: str) -> Line:
    """Return the sum to a side, over a cell and its two neighbors there."""
    return {side: MIDDLE, f"{side} of two": SIDES[side][0]}


def _set_boxes(branch: Any, lines: list[str]) -> None:
    """Set the branch that answers with the distances to the left, top, right and bottom edge, in cells of 8 px."""
    order = ("left", "up", "right", "down")
    lines = _set_lines(branch[0], lines, {key: line for side in order for key, line in _own_and_next(side).items()})
    lines = _set_lines(branch[1], lines, {side: _distance(side) for side in order})
    last = branch[2]
    bins = last.out_channels // len(order)
    last.weight.zero_()
    for number, side in enumerate(order):
        for k in range(bins):
            _set_row(last.weight[number * bins + k], lines, {side: [[2 * SHARPNESS * k / 8]]})
            last.bias[number * bins + k] = -SHARPNESS * k * k


def _set_classes(branch: Any, lines: list[str]) -> None:
    """Set the branch that answers with a logit for each class."""
    sums = {key: line for side in ("left", "up") for key, line in _own_and_next(side).items()}
    carried: dict[str, Line] = {name: {name: MIDDLE} for name in ("mask", "no_mask", "light")}
    arrived = lines
    lines = _set_lines(branch[0], arrived, sums | carried)
    missing = len(lines) * 2
    whole: Line = {"mask": -STEEP * np.array(MIDDLE), "no_mask": -STEEP * np.array(MIDDLE)}
    _set_channel(branch[0], missing, arrived, whole, STEEP * WHOLE)
    for place, name in enumerate(CLASSES, 1):
        _set_channel(branch[0], missing + place, arrived, {name: whole[name]}, STEEP * SHARE)

    lines = _set_lines(branch[1], lines, {side: _distance(side) for side in ("left", "up")} | carried)
    later = len(lines) * 2
    for place in range(1 + len(CLASSES)):
        branch[1].conv.weight[later + place].zero_()
        branch[1].conv.weight[later + place, missing + place, 1, 1] = 1
        _keep_scale(branch[1], later + place, 0)

    last = branch[2]
    last.weight.zero_()
    for place, name in enumerate(CLASSES):
        (other,) = set(CLASSES) - {name}
        wanted = {"light": PER_LIGHT, name: PER_SHARE, other: -PER_SHARE, "left": -LEFT, "up": -UP}
        _set_row(last.weight[place], lines, {key: [[value]] for key, value in wanted.items()})
        last.weight[place, later] = last.weight[place, later + 1 + place] = -1
        last.bias[place] = -PER_LIGHT * LIGHTEST / 2


# ---- lines ----


def _set_input(conv: Any, sums: Mapping[str, ArrayLike]) -> None:
    """Let a layer return these sums of the image (3, k, k), one line each."""
    for number, kernel in enumerate(sums.values()):
        for channel, sign in ((2 * number, 1.0), (2 * number + 1, -1.0)):
            conv.conv.weight[channel] = sign * _tensor(kernel)
            _keep_scale(conv, channel, 0)


def _set_lines(conv: Any, lines: Sequence[str], sums: Mapping[str, Line], *, skip: int = 0) -> list[str]:
    """Let a layer return these sums of the lines that arrive, one line each; return their names."""
    for number, kernels in enumerate(sums.values()):
        _set_channel(conv, 2 * number, lines, kernels, 0, skip=skip)
        _set_channel(
            conv, 2 * number + 1, lines, {key: -np.array(kernel) for key, kernel in kernels.items()}, 0, skip=skip
        )
    return list(sums)


def _pass_c3(c3: Any, lines: Sequence[str], *, skip: int = 0) -> list[str]:
    """Let a C3 block pass the lines on through its short branch."""
    same: dict[str, Line] = {name: {name: [[1]]} for name in lines}
    _set_lines(c3.cv2, lines, same, skip=skip)
    return _set_lines(c3.cv3, lines, same, skip=c3.cv3.conv.in_channels // 2)


def _set_channel(conv: Any, channel: int, lines: Sequence[str], kernels: Line, bias: float, *, skip: int = 0) -> None:
    """Let one channel of a layer be a sum of lines; `skip` channels arrive before them."""
    conv.conv.weight[channel].zero_()
    _set_row(conv.conv.weight[channel], lines, kernels, skip=skip)
    _keep_scale(conv, channel, bias)


def _set_row(weight: Any, lines: Sequence[str], kernels: Line, *, skip: int = 0) -> None:
    for name, kernel in kernels.items():
        channel = skip + 2 * lines.index(name)
        weight[channel] = _tensor(kernel)
        weight[channel + 1] = -_tensor(kernel)


def _keep_scale(conv: Any, channel: int, bias: float) -> None:
    """Let the normalization of a channel add a bias and change nothing else."""
    conv.bn.running_mean[channel] = 0
    conv.bn.running_var[channel] = 1 - conv.bn.eps
    conv.bn.weight[channel] = 1
    conv.bn.bias[channel] = bias


def _tensor(values: ArrayLike) -> Any:
    import torch

    return torch.tensor(np.array(values), dtype=torch.float32)
