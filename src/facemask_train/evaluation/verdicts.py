"""What a difference says, in words: about two checkpoints, or, with seeds enough, about two recipes."""

from __future__ import annotations

from collections.abc import Sequence

from facemask_train.evaluation.paired import Difference
from facemask_train.evaluation.words import NUMBERS, TOO_FEW


def points(value: float) -> str:
    """Return a difference in points of a percent, without its sign."""
    return f"{abs(100 * value):.1f}"


def of_checkpoints(first: str, second: str, found: Difference, metric: str, images: int, *, few: bool) -> str:
    """Say what a difference of two checkpoints on the same pictures means."""
    low, high = found.interval
    name = NUMBERS[metric]
    if low > 0 or high < 0:
        more = "more" if found.value > 0 else "less"
        bounds = sorted((abs(100 * low), abs(100 * high)))
        text = (
            f"This checkpoint ({second}) scores {points(found.value)} points {more} than {first}, 95 % interval "
            f"{bounds[0]:.1f} to {bounds[1]:.1f} ({name}, {images} pictures)."
        )
    else:
        text = (
            f"These {images} pictures do not tell the two checkpoints apart: {second} scores {100 * found.value:+.1f} "
            f"points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f} ({name}), against {first}."
        )
    warned = f" {TOO_FEW.capitalize()}: 100 pictures and 72 faces of each class say something." if few else ""
    return f"{text}{warned} Of two recipes it says nothing: that takes three seeds or more on each side."


def of_two_recipes(first: Sequence[str], second: Sequence[str], found: Difference, metric: str, images: int) -> str:
    """Say what a difference of two recipes' means over their seeds means."""
    low, high = found.interval
    sides = f"{len(second)} runs ({', '.join(second)}) against {len(first)} ({', '.join(first)})"
    if low > 0 or high < 0:
        more = "more" if found.value > 0 else "less"
        bounds = sorted((abs(100 * low), abs(100 * high)))
        said = f"The second recipe scores {points(found.value)} points {more}, 95 % interval {bounds[0]:.1f} to "
        return f"{said}{bounds[1]:.1f} ({NUMBERS[metric]}, {images} pictures, over seeds): {sides}."
    return (
        f"The two recipes are not told apart: {100 * found.value:+.1f} points, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f} ({NUMBERS[metric]}, {images} pictures, over seeds): {sides}."
    )
