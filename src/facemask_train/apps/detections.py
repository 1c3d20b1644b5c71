"""What a model found in one image, as a DataFrame, a plot or `supervision.Detections`. Does not import torch."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.apps import media
from facemask_train.apps.media import Frame
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import CLASSES, Detection

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import supervision
    from numpy.typing import NDArray
    from PIL import Image

COLUMNS = ("label", "confidence", "x_min", "y_min", "x_max", "y_max")
"""The columns of `Detections.to_frame`. Corners are in pixels of the image as displayed."""

_PREVIEW_SIDE = 640  # pixels


class Detections:
    """The faces found in one image, the most confident first. Behaves as a sequence of `Detection`.

    Attributes:
        source: the image's path, None for an array or a PIL image.
        width, height: of the image as displayed (EXIF orientation applied), in pixels.
        index, time: frame number, and seconds from the start, for a frame of a video; 0 and None for an image.
        faces: the detections.
    """

    def __init__(self, frame: Frame, faces: tuple[Detection, ...]) -> None:
        in_memory = frame.source == Path()
        self.source = None if in_memory else frame.source
        self.height, self.width = frame.pixels.shape[:2]
        self.index, self.time, self.faces = frame.index, frame.time, faces
        self._pixels = frame.pixels if in_memory else None  # a file is read again when it is plotted

    def __len__(self) -> int:
        return len(self.faces)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.faces)

    def __getitem__(self, number: int) -> Detection:
        return self.faces[number]

    def __repr__(self) -> str:
        return f"Detections({self._title()}, {self.width} x {self.height} px: {self._summary()})"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per face: label, confidence (0 to 1), x_min, y_min, x_max, y_max (pixels)."""
        import pandas as pd

        rows = [(one.name, one.confidence, *one.corners) for one in self.faces]
        types = {"label": "str"} | dict.fromkeys(COLUMNS[1:], "float64")
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)

    def to_supervision(self) -> supervision.Detections:
        """Return the faces as `supervision.Detections`.

        Raises:
            MissingError: the package `supervision` is not installed.
        """
        import numpy as np

        try:
            import supervision
        except ImportError as error:
            raise MissingError(
                "to_supervision needs the package supervision, which is not installed",
                next_step="pip install supervision",
            ) from error
        return supervision.Detections(
            xyxy=np.array([one.corners for one in self.faces], np.float32).reshape(-1, 4),
            confidence=np.array([one.confidence for one in self.faces], np.float32),
            class_id=np.array([CLASSES.index(one.name) for one in self.faces], np.int64),
            data={"class_name": np.array([one.name for one in self.faces], dtype="U")},
        )

    def plot(self) -> Image.Image:
        """Return the image with the boxes, labels and confidences drawn on it.

        Raises:
            DataError: the image's file has changed or is gone.
        """
        from PIL import Image

        from facemask_train.apps.writers import draw_detections

        return Image.fromarray(draw_detections(self._image(), self.faces))

    def _image(self) -> NDArray[np.uint8]:
        """Return the image's pixels, (h, w, 3) uint8 RGB."""
        if self._pixels is not None:
            return self._pixels
        assert self.source is not None
        frames = media.frames([media.Source(self.source, self.source.name)], workers=1)
        found = next((one for one in frames if not isinstance(one, Frame) or one.index == self.index), None)
        if not isinstance(found, Frame) or found.pixels.shape[:2] != (self.height, self.width):
            reason = found.reason if isinstance(found, media.Problem) else "it has changed since"
            raise DataError(f"{self.source}: cannot be drawn; {reason}", next_step="predict it again")
        return found.pixels

    def _repr_html_(self) -> str:
        """Return the image with its boxes, for a notebook."""
        from facemask_train.report.html import embed

        caption = html.escape(f"{self._title()}: {self._summary()}")
        try:
            image = self.plot()
        except DataError as error:
            return f"<p>{caption} ({html.escape(str(error))})</p>"
        image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        shown = embed(image, caption)
        return f'<figure><img src="{shown.uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'

    def _title(self) -> str:
        name = "image" if self.source is None else self.source.name
        return name if self.time is None else f"{name} at {self.time:.2f} s"

    def _summary(self) -> str:
        counts = ", ".join(f"{sum(one.name == name for one in self.faces)} {name}" for name in CLASSES)
        return f"{len(self)} face{'' if len(self) == 1 else 's'} ({counts})"


class DetectionsList(list[Detections]):
    """The detections of several images: a list with a table of all faces."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per face of all images: the columns of `Detections.to_frame` after `image` and `frame`.

        `image` is the path as text (the position in the list for an image in memory), `frame` the frame's number.
        """
        import pandas as pd

        tables = [
            one.to_frame().assign(image=str(place if one.source is None else one.source), frame=one.index)
            for place, one in enumerate(self)
        ]
        columns = ["image", "frame", *COLUMNS]
        filled = [table for table in tables if len(table)]
        return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)

    def _repr_html_(self) -> str:
        """Return the table of all faces, for a notebook."""
        return str(self.to_frame().to_html())
