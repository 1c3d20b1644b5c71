"""The members of a zip, and whether it is whole."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from functools import partial
from pathlib import Path

from facemask_train.sources.members import Member, limited, not_read, plain_name, refusal

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def zip_members(archive: Path, opened: zipfile.ZipFile) -> list[Member]:
    """Return the files of an open zip, their names and sizes checked.

    Raises:
        DataError: a member is never unpacked, or is packed in a way that is not read.
    """
    members = []
    for info in limited(archive, archive.stat().st_size, opened.infolist(), lambda info: info.file_size):
        name = plain_name(archive, info.filename)
        if info.is_dir():
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise refusal(archive, f"{name!r} is a link or a device")
        if info.flag_bits & 0x41:
            raise refusal(archive, f"{name!r} is encrypted")
        if info.compress_type not in _METHODS:
            found = f"found {name!r} by method {info.compress_type}"
            raise not_read(archive, f"expected members packed by deflate, bzip2 or LZMA, {found}")
        members.append(Member(name, info.file_size, partial(opened.open, info)))
    return members


def announced(archive: Path, found: int) -> int:
    """Return how many members a zip says it has.

    `zipfile` does not look: one flipped bit in the length of a comment makes it take the next members for the comment.
    The count has 16 bits. An archive with more members has it in a second record, or (old writers) cut to 16 bits.
    """
    with archive.open("rb") as stream:
        stream.seek(-min(archive.stat().st_size, 2**16 + 256), os.SEEK_END)
        tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    (count,) = struct.unpack_from("<H", tail, end + 10)
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if count == 0xFFFF and large >= 0:
        return int(struct.unpack_from("<Q", tail, large + 32)[0])
    return found - found % 2**16 + int(count)
