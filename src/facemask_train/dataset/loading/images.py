"""What an image file really is, and how it becomes a plain one. Knows no labels.

Plain means: what any YOLO tool reads right. A JPEG, PNG or WEBP of 8 bits in RGB or grey, with the extension that it
has in truth, upright without an EXIF orientation, without alpha, palette, animation or bytes after its end.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from facemask_train.core.errors import FmaskError
from facemask_train.dataset.grouping.hashing import Fingerprint, fingerprint
from facemask_train.sources.source_record import altered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

EXTENSIONS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_SAME = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg"}
_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"IEND"
_MIN_SIDE = 10  # pixels; the `ultralytics` loader drops smaller images
_MAX_PIXELS = 200_000_000
_ORIENTATION = 0x0112
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow raises on files that are not what they claim to be."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in one image file.

    `width` and `height` are as displayed, `stored` as encoded (they differ under an EXIF turn). `repairs` are the
    short words for what has to be mended; `cause` says why the file cannot be used at all (then the sizes are 0).
    """

    path: str
    sha256: str
    width: int = 0
    height: int = 0
    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    extension: str = ""
    repairs: tuple[str, ...] = ()
    cause: str = ""
    detail: str = ""


class Examined(NamedTuple):
    """One image file: what it is, and what it looks like (None where it cannot be used)."""

    facts: Facts
    fingerprint: Fingerprint | None


def examine(folder: Path, path: str) -> Examined:
    """Read one image file in full and say what it is; never raises for what is in the file."""
    content = (folder / path).read_bytes()
    return examine_bytes(content, path, hashlib.sha256(content).hexdigest())


def examine_bytes(content: bytes, path: str, digest: str) -> Examined:
    """Say what an image file's content is, given its path and its sha256."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                facts = _facts(image, content, Facts(path, digest))
                return Examined(facts, None if facts.cause else fingerprint(_grey(image)))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        return Examined(Facts(path, digest, cause="too-large", detail=str(error)), None)
    except BROKEN as error:
        cause = "truncated" if "truncated" in str(error).lower() else "unreadable"
        detail = str(error).replace(repr(error.__class__), "").split("<_io.")[0].strip() or type(error).__name__
        return Examined(Facts(path, digest, cause=cause, detail=detail), None)


def _grey(image: Image) -> NDArray[np.uint8]:
    """Return an image as displayed, in grey, (height, width)."""
    import numpy as np
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
    plain = upright if upright.mode in ("RGB", "L") and "transparency" not in image.info else plain_rgb(upright)
    return np.asarray(plain.convert("L"))


def _facts(image: Image, content: bytes, blank: Facts) -> Facts:
    width, height = stored = image.size
    orientation = orientation_of(image)
    if orientation >= 5:
        width, height = height, width
    if min(width, height) < _MIN_SIDE:
        detail = f"{width} x {height} px, less than {_MIN_SIDE}"
        return Facts(blank.path, blank.sha256, cause="too-small", detail=detail)
    extension = EXTENSIONS.get(image.format or "", "")
    published = PurePosixPath(blank.path).suffix.lower()
    repairs = list(_repairs(image, content))
    if _SAME.get(published, published) != extension and extension:
        repairs.append("wrong-extension")
    return Facts(blank.path, blank.sha256, width, height, stored, orientation, extension, tuple(sorted(repairs)))


def orientation_of(image: Image) -> int:
    """Return an image's EXIF orientation, 1 to 8; 1 where it has none, or none that means something."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except BROKEN:  # a broken EXIF block is no reason to lose the image: every reader ignores it
        return 1
    return value if value in range(2, 9) else 1


def _repairs(image: Image, content: bytes) -> list[str]:
    """Return what keeps a decoded image from being plain, its extension aside."""
    found = {
        "unusual-format": image.format not in EXTENSIONS,
        "animated": getattr(image, "n_frames", 1) > 1 and image.format != "MPO",
        "exif-orientation": orientation_of(image) != 1,
        "palette": image.mode == "P",
        "alpha": image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info,
        "unusual-mode": image.mode not in ("RGB", "L", "P", "RGBA", "LA", "PA", "RGBa"),
        "no-end": image.format == "PNG" and _END_OF_PNG not in content,  # Pillow reads it all the same; OpenCV does not
        "bytes-after-end": image.format in ("JPEG", "MPO") and not content.endswith(_END_OF_JPEG),
    }
    return [word for word, is_so in found.items() if is_so]


def read_published(files: Path, facts: Facts) -> bytes:
    """Return the bytes of a published image, as they were when it was examined.

    Raises:
        DataError: it is gone, or has other bytes.
    """
    path = files / facts.path
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise altered(path, "none") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != facts.sha256:
        raise altered(path, f"other bytes (sha256 {digest[:12]}, not {facts.sha256[:12]})")
    return content


def make_plain(content: bytes, facts: Facts) -> tuple[bytes, str]:
    """Return the bytes and the extension of the plain image; untouched bytes where they can stay."""
    redraw = set(facts.repairs) - {"wrong-extension", "bytes-after-end"}
    if redraw:
        return _redrawn(content, lossy=facts.extension == ".jpg")
    if "bytes-after-end" in facts.repairs:
        end = content.rfind(_END_OF_JPEG)
        content = (content if end < 0 else content[:end]) + _END_OF_JPEG
    return content, facts.extension


def decoded_plain(content: bytes, facts: Facts) -> NDArray[np.uint8]:
    """Return the pixels of a plain image's bytes, (height, width, 3), RGB.

    Raises:
        FmaskError: OpenCV cannot read what Pillow could.
    """
    import cv2
    import numpy as np

    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise FmaskError(f"{facts.path}: Pillow reads this image and OpenCV does not; please report it")
    rgb: NDArray[np.uint8] = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return rgb


def plain_extension(facts: Facts) -> str:
    """Return the extension that `make_plain` will give, without decoding."""
    redraw = set(facts.repairs) - {"wrong-extension", "bytes-after-end"}
    return facts.extension if not redraw or facts.extension == ".jpg" else ".png"


def _redrawn(content: bytes, *, lossy: bool) -> tuple[bytes, str]:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
        plain = plain_rgb(upright)
    stream = io.BytesIO()
    if lossy:  # the one case of a second JPEG generation: an EXIF turn, or CMYK
        plain.save(stream, "JPEG", quality=95, subsampling=0)
        return stream.getvalue(), ".jpg"
    plain.save(stream, "PNG")
    return stream.getvalue(), ".png"


def plain_rgb(image: Image) -> Image:
    """Return 8-bit RGB; what is transparent shows white, as a viewer would show it."""
    from PIL import Image as Module

    if image.mode.startswith("I;16") or image.mode == "I":
        return image.convert("I").point(_upper_byte).convert("L").convert("RGB")
    if image.mode in ("P", "RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        front = image.convert("RGBA")
        behind = Module.new("RGBA", front.size, "white")
        return Module.alpha_composite(behind, front).convert("RGB")
    return image.convert("RGB")


_upper_byte: Callable[[float], float] = lambda value: value * (1 / 256)  # noqa: E731 (Pillow evaluates it symbolically)
