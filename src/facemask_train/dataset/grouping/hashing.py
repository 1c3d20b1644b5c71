"""What an image looks like, small enough to compare a million of them: a hash of 256 bits, and a thumbnail.

The hash holds the signs of the lowest frequencies of the image's cosine transform (the idea of Zauner's pHash, 2010),
lowest first: its first 64 bits are the 64 lowest, which a re-encoding, a rescaling or a small crop hardly changes.
Signs rather than comparisons with a median, since a turn or a mirroring then only moves bits and flips known ones: the
hash of an image in any of the 8 orientations follows from one. Knows no file and no label.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facemask_train.dataset.grouping.similarity import has_structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bits = NDArray[np.uint64]
    """(n, 4): the hashes of n images, in words of 64 bits, the lowest frequencies in the first."""

SIDE = 96
"""Pixels a side of a thumbnail: the whole image, squeezed to a square, in grey."""

BITS = 256
ORIENTATIONS = range(8)
"""0 to 3: turned counter-clockwise by so many quarters; 4 to 7: mirrored left to right, then turned so."""

_GRID = 32  # samples a side that the cosine transform sees; its 22 lowest diagonals hold the hash
_MIDDLE = (5, 5)  # the one frequency of the first ten diagonals that has no place in the first 64 bits


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One image's hash (32 bytes) and thumbnail (SIDE * SIDE bytes, row by row).

    The hash is empty (all zero) where there is too little structure to compare: near-uniform images are all alike.
    """

    hash: bytes
    thumbnail: bytes


def fingerprint(image: NDArray[np.uint8]) -> Fingerprint:
    """Return the fingerprint of an image, (height, width) in grey."""
    import cv2

    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Fingerprint(_signs(small).tobytes() if has_structure(small) else bytes(BITS // 8), small.tobytes())


def _signs(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2
    import numpy as np

    grid = cv2.resize(thumbnail, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    rows, columns = _frequencies()
    return np.packbits(cv2.dct(grid)[rows, columns] > 0, bitorder="little")


@functools.cache
def _frequencies() -> tuple[Any, Any]:
    """Return the row and column of each bit's frequency, lowest first; the set is the same when transposed."""
    import numpy as np

    found = [(row, total - row) for total in range(1, 22) for row in range(total + 1)]
    found.remove(_MIDDLE)
    found.insert(64, _MIDDLE)
    found += [(11, 11), (0, 22), (22, 0), (12, 12)]  # what 256 lacks, still symmetrical
    return tuple(np.array(found).T)


def oriented(hashes: Bits, orientation: int) -> Bits:
    """Return the hashes of the same images in another orientation (see `ORIENTATIONS`)."""
    import numpy as np

    order, flips = _moves(orientation)
    bits = np.unpackbits(hashes.view(np.uint8), axis=1, bitorder="little")
    moved = np.packbits(bits[:, order] ^ flips, axis=1, bitorder="little")
    return np.ascontiguousarray(moved).view(np.uint64)


@functools.cache
def _moves(orientation: int) -> tuple[Any, Any]:
    """Return where each bit of an oriented hash comes from, and which bits are flipped on the way.

    Mirroring left to right negates the odd column frequencies; a quarter turn counter-clockwise transposes, then
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


def turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an image, (height, width, ...), in another orientation."""
    import numpy as np

    return np.rot90(image[:, ::-1] if orientation >= 4 else image, orientation % 4)


def words(hashes: list[bytes]) -> Bits:
    """Return hashes as the array that `oriented` and the search work on."""
    import numpy as np

    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, BITS // 64).copy()
