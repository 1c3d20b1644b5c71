"""Examines image files, and converts them to plain ones. Does not read labels.

A plain image is one that every YOLO tool reads correctly: a JPEG, PNG or WEBP with 8 bits in RGB or gray and the right
extension, upright without an EXIF orientation, without alpha, palette, animation or bytes after its end.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from facemask_train.core.errors import FmaskError
from facemask_train.dataset.grouping.hashing import ImageHash, hash_image
from facemask_train.formats.media_types import HEIC_HINT, HEIC_SUFFIXES, RAW_SUFFIXES, enable_heic, suffix
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
BROKEN = (Exception,)
"""Errors that Pillow raises on damaged files: its decoders raise any, such as RuntimeError for a damaged AVIF."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The result of examining one image file.

    Attributes:
        width, height: of the image as displayed, in pixels.
        stored: width and height as encoded; they differ if the EXIF orientation swaps the sides.
        repairs: short names of everything that has to be repaired.
        cause, detail: why the file cannot be used at all; the sizes are 0 then.
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


class ExaminedImage(NamedTuple):
    """The facts about one image file, and its hash and thumbnail (None if it cannot be used)."""

    facts: ImageFacts
    image_hash: ImageHash | None


def examine(folder: Path, path: str) -> ExaminedImage:
    """Read and examine one image file. Never raises because of the content of the file."""
    content = (folder / path).read_bytes()
    return examine_bytes(content, path, hashlib.sha256(content).hexdigest())


def examine_bytes(content: bytes, path: str, digest: str) -> ExaminedImage:
    """Examine the content of an image file, given its path and its sha256."""
    from PIL import Image

    if suffix(path) in RAW_SUFFIXES:  # Pillow would find a preview in it
        detail = f"{suffix(path)} is for a raw converter; save it as JPEG or PNG"
        return ExaminedImage(ImageFacts(path, digest, cause="unsupported", detail=detail), None)
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
    enable_heic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                facts = _facts(image, content, ImageFacts(path, digest))
                return ExaminedImage(facts, None if facts.cause else hash_image(_gray(image)))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        return ExaminedImage(ImageFacts(path, digest, cause="too-large", detail=str(error)), None)
    except BROKEN as error:
        cause = "truncated" if "truncated" in str(error).lower() else "unreadable"
        detail = str(error).replace(repr(error.__class__), "").split("<_io.")[0].strip() or type(error).__name__
        if suffix(path) in HEIC_SUFFIXES and not enable_heic():
            cause, detail = "unsupported", HEIC_HINT
        return ExaminedImage(ImageFacts(path, digest, cause=cause, detail=detail), None)


def _gray(image: Image) -> NDArray[np.uint8]:
    """Return an image as displayed, in gray, (height, width)."""
    import numpy as np
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
    plain = upright if upright.mode in ("RGB", "L") and "transparency" not in image.info else plain_rgb(upright)
    return np.asarray(plain.convert("L"))


def _facts(image: Image, content: bytes, blank: ImageFacts) -> ImageFacts:
    width, height = stored = image.size
    orientation = orientation_of(image)
    if orientation >= 5:
        width, height = height, width
    if min(width, height) < _MIN_SIDE:
        detail = f"{width} x {height} px, less than {_MIN_SIDE}"
        return ImageFacts(blank.path, blank.sha256, cause="too-small", detail=detail)
    extension = EXTENSIONS.get(image.format or "", "")
    published = PurePosixPath(blank.path).suffix.lower()
    repairs = list(_repairs(image, content))
    if _SAME.get(published, published) != extension and extension:
        repairs.append("wrong-extension")
    return ImageFacts(blank.path, blank.sha256, width, height, stored, orientation, extension, tuple(sorted(repairs)))


def orientation_of(image: Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 if it has none or an invalid one."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except BROKEN:  # every reader ignores a damaged EXIF block, so the image can be used
        return 1
    return value if value in range(2, 9) else 1


def _repairs(image: Image, content: bytes) -> list[str]:
    """Return what has to be repaired in a decoded image, except its extension."""
    found = {
        "unusual-format": image.format not in EXTENSIONS,
        "animated": getattr(image, "n_frames", 1) > 1 and image.format != "MPO",
        "exif-orientation": orientation_of(image) != 1,
        "palette": image.mode == "P",
        "alpha": image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info,
        "unusual-mode": image.mode not in ("RGB", "L", "P", "RGBA", "LA", "PA", "RGBa"),
        "range-scaled": _scaled(image),
        "no-end": image.format == "PNG" and _END_OF_PNG not in content,  # Pillow reads it, OpenCV does not
        "bytes-after-end": image.format in ("JPEG", "MPO") and not content.endswith(_END_OF_JPEG),
    }
    return [word for word, is_so in found.items() if is_so]


def read_published(files: Path, facts: ImageFacts) -> bytes:
    """Return the bytes of a published image, which must be the same as when it was examined.

    Raises:
        DataError: the file is missing, or has other bytes.
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


def read_gray(files: Path, facts: ImageFacts) -> NDArray[np.uint8]:
    """Return the pixels of a usable published image as displayed, in gray, (height, width).

    Raises:
        DataError: the file is missing, or has other bytes than when it was examined.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
    enable_heic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(read_published(files, facts))) as image:
            image.load()
            return _gray(image)


def make_plain(content: bytes, facts: ImageFacts) -> tuple[bytes, str]:
    """Return the bytes and the extension of the plain image; the bytes are unchanged if they need no repair."""
    reencode = set(facts.repairs) - {"wrong-extension", "bytes-after-end"}
    if reencode:
        return _reencoded(content, lossy=facts.extension == ".jpg")
    if "bytes-after-end" in facts.repairs:
        end = content.rfind(_END_OF_JPEG)
        content = (content if end < 0 else content[:end]) + _END_OF_JPEG
    return content, facts.extension


def decoded_plain(content: bytes, facts: ImageFacts) -> NDArray[np.uint8]:
    """Return the pixels of a plain image's bytes, (height, width, 3), RGB.

    Raises:
        FmaskError: OpenCV cannot read an image that Pillow could read.
    """
    import cv2
    import numpy as np

    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise FmaskError(f"{facts.path}: Pillow can read this image, but OpenCV cannot; please report this as a bug")
    rgb: NDArray[np.uint8] = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return rgb


def plain_extension(facts: ImageFacts) -> str:
    """Return the extension that `make_plain` will return, without decoding."""
    reencode = set(facts.repairs) - {"wrong-extension", "bytes-after-end"}
    return facts.extension if not reencode or facts.extension == ".jpg" else ".png"


def _reencoded(content: bytes, *, lossy: bool) -> tuple[bytes, str]:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
        plain = plain_rgb(upright)
    stream = io.BytesIO()
    if lossy:  # the only case in which a JPEG is encoded again: EXIF orientation or CMYK
        plain.save(stream, "JPEG", quality=95, subsampling=0)
        return stream.getvalue(), ".jpg"
    plain.save(stream, "PNG")
    return stream.getvalue(), ".png"


def plain_rgb(image: Image) -> Image:
    """Return an image in 8-bit RGB; transparent parts become white, as in an image viewer."""
    from PIL import Image as Module

    if _scaled(image):
        return _from_range(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        return image.convert("I").point(_upper_byte).convert("L").convert("RGB")
    if image.mode in ("P", "RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        front = image.convert("RGBA")
        behind = Module.new("RGBA", front.size, "white")
        return Module.alpha_composite(behind, front).convert("RGB")
    return image.convert("RGB")


def _scaled(image: Image) -> bool:
    """Return whether the values of an image have no fixed range: floats, and TIFFs of 16 bits or more."""
    return image.mode == "F" or (image.format == "TIFF" and image.mode.startswith("I"))


def _from_range(image: Image) -> Image:
    """Return 8-bit RGB, the lowest value of the image black and its highest white; what is not finite is black."""
    import numpy as np
    from PIL import Image as Module

    values = np.asarray(image, np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    scaled = np.where(finite, (values - low) / max(high - low, 1e-12) * 255, 0).round().astype(np.uint8)
    return Module.fromarray(scaled, "L").convert("RGB")


_upper_byte: Callable[[float], float] = lambda value: value * (1 / 256)  # noqa: E731 (Pillow evaluates it symbolically)
