"""Which files are images or videos: by their names, or, where a name says nothing, by their first bytes."""

from __future__ import annotations

import functools
import re
from pathlib import Path, PurePosixPath
from typing import Literal

Kind = Literal["image", "video", ""]

RAW_SUFFIXES = frozenset([".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"])
"""What cameras write for a raw converter. A decoder of images finds no more than a small preview in them."""

HEIC_SUFFIXES = frozenset([".heic", ".heif", ".hif"])
HEIC_HINT = "HEIC needs the package pillow-heif (pip install 'facemask-train[heic]'); or save it as JPEG"

IMAGE_SUFFIXES = (
    RAW_SUFFIXES
    | HEIC_SUFFIXES
    | frozenset(
        [
            *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
            *(".jp2", ".j2k", ".avif", ".avifs", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
            *(".psd", ".qoi", ".exr"),
        ]
    )
)
"""Files that are images by their name. Those that cannot be decoded here are refused, each with a row."""

VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts", ".m2ts", ".flv"),
        *(".ogv", ".asf", ".vob"),
    ]
)
"""Files that are videos by their name. `.ts` is not one: programs have it too."""

_TEXTS = frozenset(
    [".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".tsv", ".md", ".names", ".data", ".cfg", ".html"]
)
"""Suffixes of files that are not opened to see whether they are images, since a data set has many of them."""

_HEAD = 512  # bytes
_IMAGE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|II\+\0|MM\0\+"
    rb"|\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51|\0\0\0\x0cJXL \r\n|8BPS\0|qoif|\x76\x2f\x31\x01"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"
    rb"|....ftyp(?:avi[fs]|hei[cfmsx]|hev[cmsx]|mif[12]|msf1|crx )",
    re.DOTALL,
)
_VIDEO = re.compile(
    rb"RIFF....AVI |\x1a\x45\xdf\xa3|FLV\x01|\0\0\x01[\xba\xb3]|\x30\x26\xb2\x75\x8e\x66\xcf\x11"
    rb"|....ftyp|....moov|\x47.{187}\x47.{187}\x47|.{4}\x47.{191}\x47.{191}\x47",
    re.DOTALL,
)


def suffix(file: str) -> str:
    """Return a file name's extension in small letters, with its dot."""
    return PurePosixPath(file).suffix.lower()


def kind_of(path: Path) -> Kind:
    """Return whether a file is an image or a video; an empty string if it is neither, or cannot be read."""
    ending = suffix(path.name)
    if ending in IMAGE_SUFFIXES:
        return "image"
    if ending in VIDEO_SUFFIXES:
        return "video"
    if ending in _TEXTS:
        return ""
    try:
        with path.open("rb") as stream:
            return kind_of_bytes(stream.read(_HEAD))
    except OSError:
        return ""


def kind_of_bytes(head: bytes) -> Kind:
    """Return what the first bytes of a file say that it is."""
    if _IMAGE.match(head):
        return "image"
    return "video" if _VIDEO.match(head) else ""


@functools.cache
def enable_heic() -> bool:
    """Let Pillow read HEIC, if the package for it is installed; return whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
