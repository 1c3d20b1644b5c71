"""Which split a picture goes to: a threshold on the hash of its content, so that no new picture moves an old one."""

from __future__ import annotations

from facemask_train.config import Split


def split_of(sha256: str, split: Split) -> str:
    """Return `train`, `val` or `test` for a picture by the sha256 (hex) of its published file.

    The first 64 bits, read as a fraction in [0, 1), fall below `train`, below `train + val`, or above. Pictures that
    are equal byte for byte get the same split.
    """
    position = int(sha256[:16], 16) / 16**16
    if position < split.train:
        return "train"
    return "val" if position < split.train + split.val else "test"
