"""Perceptual hashes of 256 bits, and thumbnails: small enough to compare a million images.

The bits are the signs of the lowest frequencies of the image's cosine transform (the idea of Zauner's pHash, 2010),
lowest first. The first 64 bits, the 64 lowest frequencies, hardly change when an image is re-encoded, rescaled or
slightly cropped. Signs are used instead of comparisons with a median because rotating or mirroring an image then only
moves bits and flips known ones: the hash in any of the 8 orientations follows from one. Does not read files or labels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facemask_train.dataset.grouping.similarity import has_structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    """(n, 4): the hashes of n images in words of 64 bits, the lowest frequencies in the first word."""

SIDE = 96
"""Pixels per side of a thumbnail: the whole image in gray, stretched to a square."""

BITS = 256
ORIENTATIONS = range(8)
"""0 to 3: counterclockwise quarter turns; 4 to 7: mirrored left to right, then the same turns."""

_GRID = 32  # samples per side for the cosine transform; its 22 lowest diagonals contain the hash
_MIDDLE = (5, 5)  # the one frequency of the first ten diagonals that does not fit in the first 64 bits


@dataclass(frozen=True, slots=True)
class ImageHash:
    """The hash (32 bytes) and thumbnail (SIDE * SIDE bytes, row by row) of one image.

    The hash is all zeros if the image has too little structure to compare: near-uniform images are all similar.
    """

    hash: bytes
    thumbnail: bytes


def hash_image(image: NDArray[np.uint8]) -> ImageHash:
    """Return the hash and thumbnail of a gray image, (height, width)."""
    import cv2

    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return ImageHash(_signs(small).tobytes() if has_structure(small) else bytes(BITS // 8), small.tobytes())


def _signs(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2
    import numpy as np

    grid = cv2.resize(thumbnail, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    rows, columns = _frequencies()
    return np.packbits(cv2.dct(grid)[rows, columns] > 0, bitorder="little")


@functools.cache
def _frequencies() -> tuple[Any, Any]:
    """Return the row and column of the frequency of each bit, lowest first; the set equals its transpose."""
    import numpy as np

    found = [(row, total - row) for total in range(1, 22) for row in range(total + 1)]
    found.remove(_MIDDLE)
    found.insert(64, _MIDDLE)
    found += [(11, 11), (0, 22), (22, 0), (12, 12)]  # to fill 256 bits; still symmetric
    return tuple(np.array(found).T)


def orient_hashes(hashes: Hashes, orientation: int) -> Hashes:
    """Return the hashes of the same images in another orientation (see `ORIENTATIONS`)."""
    import numpy as np

    order, flips = _moves(orientation)
    bits = np.unpackbits(hashes.view(np.uint8), axis=1, bitorder="little")
    moved = np.packbits(bits[:, order] ^ flips, axis=1, bitorder="little")
    return np.ascontiguousarray(moved).view(np.uint64)


@functools.cache
def _moves(orientation: int) -> tuple[Any, Any]:
    """Return the source of each bit of an oriented hash, and which bits are flipped.

    Mirroring left to right negates the odd column frequencies; a counterclockwise quarter turn transposes, then
    negates the odd row frequencies.
    """
    import numpy as np

    places = {place: bit for bit, place in enumerate(zip(*(axis.tolist() for axis in _frequencies()), strict=True))}
    order, flips = np.zeros(BITS, np.intp), np.zeros(BITS, np.uint8)
    for (row, column), bit in places.items():
        at, negative = (row, column), False
        for _ in range(orientation % 4):
            negative ^= bool(at[0] % 2)
            at = (at[1], at[0])
        if orientation >= 4:
            negative ^= bool(at[1] % 2)
        order[bit], flips[bit] = places[at], negative
    return order, flips


def orient_image(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an image, (height, width, ...), in another orientation."""
    import numpy as np

    return np.rot90(image[:, ::-1] if orientation >= 4 else image, orientation % 4)


def stack_hashes(hashes: list[bytes]) -> Hashes:
    """Return hashes of 32 bytes as one array for `orient_hashes` and the search."""
    import numpy as np

    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, BITS // 64).copy()
