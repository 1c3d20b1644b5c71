"""The Python interface to a model: `load_model`, then `predict` on paths, arrays, PIL images, lists and folders.

    model = load_model("runs/baseline/weights/best.pt")
    faces = model.predict("street.jpg")
    faces.to_frame()

`fmask predict` runs the same functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, overload, runtime_checkable

from facemask_train.apps import job, media
from facemask_train.apps.detections import Detections, DetectionsList
from facemask_train.apps.media import Frame, Problem
from facemask_train.apps.resolve_model import ResolvedModel, find_threshold, resolve_model
from facemask_train.core.errors import DataError, UsageError
from facemask_train.core.types import CLASSES, Corners, Detection
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import Detector, load_detector, one_per_face
from facemask_train.training import runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    ImageInput: TypeAlias = str | Path | NDArray[np.uint8] | Image.Image
    """One image: a path, an (h, w, 3) uint8 RGB array, or a PIL image."""

_EXPECTED = "expected a path, an (h, w, 3) uint8 RGB array or a PIL image"
_WEIGHTS = (".pt", ".onnx", ".xml")


@runtime_checkable
class HasFolder(Protocol):
    """Anything that knows its folder, such as what `train` returns."""

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded detector that is ready to predict.

    Attributes:
        name: the run's name, or a name derived from the weights file.
        weights: the loaded file or folder.
        detector: the loaded network.
        threshold: the confidence threshold that `predict` uses by default, and where it comes from.
    """

    name: str
    weights: Path
    detector: Detector
    threshold: Threshold

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASSES

    def __repr__(self) -> str:
        return (
            f"Model({self.name!r}, {self.detector.backend.name}, imgsz={self.detector.imgsz}, "
            f"confidence={self.threshold.value:.3f})"
        )

    @overload
    def predict(
        self, image: Sequence[ImageInput], confidence: float | None = ..., *, frame_interval: float | None = ...
    ) -> DetectionsList: ...

    @overload
    def predict(
        self, image: ImageInput, confidence: float | None = ..., *, frame_interval: float | None = ...
    ) -> Detections | DetectionsList: ...

    def predict(
        self,
        image: ImageInput | Sequence[ImageInput],
        confidence: float | None = None,
        *,
        frame_interval: float | None = None,
    ) -> Detections | DetectionsList:
        """Find the faces in one image, a list of images, a folder or a video.

        Args:
            image: a path, an (h, w, 3) uint8 RGB array, a PIL image, or a sequence of these. A folder is searched
                recursively; a video gives one result per frame.
            confidence: detections at or below this confidence are left out; `threshold.value` if it is None.
            frame_interval: seconds between the video frames to process; every frame if it is None.

        Returns:
            `Detections` for one image; a list of them for a sequence, a folder or a video. A file in a folder that
            cannot be read is left out with a warning that names it.

        Raises:
            MissingError: a path that does not exist, or a folder without images.
            UsageError: a value that is not an image, or a confidence outside 0 to 1.
            DataError: a file that cannot be decoded.
        """
        level = self.threshold.value if confidence is None else confidence
        if not 0 <= level <= 1:
            raise UsageError(f"confidence {level}: expected a number from 0 to 1", next_step="confidence=0.25")
        check_lowest_confidence(self.detector, level)
        frames, single = _frames_of(image, frame_interval)
        found = DetectionsList(
            Detections(frame, faces_above(detections, level))
            for frame, detections in job.detect(self.detector, frames, level, job.batch_size(self.detector))
        )
        return found[0] if single else found


def load_model(
    model: str | Path | HasFolder | None = None,
    *,
    root: str | Path = ".",
    imgsz: int | None = None,
    device: str = "",
    precision: str = "float32",
    streams: int = 1,
) -> Model:
    """Load the best weights of a run, a checkpoint (.pt) or an export (.onnx, an OpenVINO folder).

    Args:
        model: a run's name, a run's folder, what `train` returned, or a path to weights; the last finished run where
            it is None.
        root: the project folder, which contains `runs/`.
        imgsz: input size in pixels; the model's own if it is None.
        device: `cpu`, a GPU's number, or empty for a GPU where there is one. Exports run on the CPU.
        precision: `float32` or `bfloat16`.
        streams: batches that run at the same time, in threads. More than 1 is faster for many images on a CPU and
            slower for one.

    Raises:
        MissingError: there is no such run or file.
        DataError: the weights cannot be used.
        UsageError: an option that this model does not support.
    """
    run, weights, home = _which(model, Path(root))
    return open_model(
        resolve_model(home, run, weights), imgsz=imgsz, device=device, precision=precision, streams=streams
    )


def open_model(
    resolved: ResolvedModel,
    *,
    imgsz: int | None = None,
    device: str = "",
    precision: str = "float32",
    streams: int = 1,
    confidence: float | None = None,
) -> Model:
    """Load a model that has been located, and choose its confidence threshold."""
    detector = load_detector(
        resolved.weights, imgsz=resolved.imgsz(imgsz), device=device, precision=precision, streams=streams
    )
    return Model(resolved.name, resolved.weights, detector, find_threshold(resolved, detector, confidence))


def _which(model: str | Path | HasFolder | None, root: Path) -> tuple[str | None, Path | None, Path]:
    """Return (run, weights, root): at most one of the first two is set."""
    if model is None:
        return None, None, root
    if isinstance(model, (str, Path)):
        path = Path(model)
        if (path / runs.MARKER).is_file():
            return path.resolve().name, None, path.resolve().parents[1]
        if path.suffix in _WEIGHTS or path.exists() or len(path.parts) > 1:
            return None, path, root
        return str(model), None, root
    if isinstance(model, HasFolder):
        return _which(model.folder, root)
    raise UsageError(
        f"expected a run's name, a run's folder or a path to weights; found {type(model).__name__}",
        next_step='load_model("best.pt")',
    )


# ---- shared with `fmask predict` ----


def check_lowest_confidence(detector: Detector, lowest: float, purpose: str = "") -> None:
    """Make sure that a model reports detections down to a confidence.

    Raises:
        UsageError: the export was made with a higher one built in.
    """
    if detector.backend.min_confidence > lowest:
        raise UsageError(
            f"this export drops detections below confidence {detector.backend.min_confidence:g}, but {lowest:g} is "
            f"needed{purpose}",
            next_step="use the run's .pt, or an export without built-in suppression: fmask export --nms outside",
        )


def faces_above(detections: Iterable[Detection], confidence: float) -> tuple[Detection, ...]:
    """Return one detection per face, above a confidence.

    Corners are rounded to hundredths of a pixel and confidences to four digits, as in every file that fmask writes. A
    box that has no area then is left out.
    """
    above = one_per_face(one for one in detections if one.confidence > confidence)
    rounded = (replace(one, confidence=round(one.confidence, 4), corners=_rounded(one.corners)) for one in above)
    return tuple(one for one in rounded if one.corners[0] < one.corners[2] and one.corners[1] < one.corners[3])


def _rounded(corners: Corners) -> Corners:
    x_min, y_min, x_max, y_max = (round(side, 2) for side in corners)
    return x_min, y_min, x_max, y_max


# ---- from what a caller has to frames ----


def _frames_of(image: ImageInput | Sequence[ImageInput], frame_interval: float | None) -> tuple[Iterator[Frame], bool]:
    """Return the frames to process, and whether the caller gave a single image."""
    if isinstance(image, (str, Path)):
        return _frames_of_path(image, frame_interval)
    if isinstance(image, (list, tuple)):
        if not image:
            raise UsageError(f"an empty list of images: {_EXPECTED}, or a list of these", next_step="predict([path])")
        return (frame for one in image for frame in _frames_of(one, frame_interval)[0]), False
    return iter([_frame_in_memory(image)]), True


def _frames_of_path(path: str | Path, frame_interval: float | None) -> tuple[Iterator[Frame], bool]:
    sources = media.find_sources([path])
    single = len(sources) == 1 and not sources[0].is_video and Path(path).is_file()
    frames = media.frames(sources, frame_interval=frame_interval)
    return (_readable(frames) if Path(path).is_dir() else _all_readable(frames)), single


def _readable(frames: Iterable[Frame | Problem]) -> Iterator[Frame]:
    """Yield a folder's frames; a file that cannot be read gives a warning."""
    problems, any_read = [], False
    for one in frames:
        if isinstance(one, Problem):
            problems.append(one)
            warnings.warn(f"{one.path}: not read: {one.reason}", stacklevel=2)
        else:
            any_read = True
            yield one
    if not any_read:
        raise job.nothing_read(problems)


def _all_readable(frames: Iterable[Frame | Problem]) -> Iterator[Frame]:
    for one in frames:
        if isinstance(one, Problem):
            raise DataError(
                f"{one.path}: expected an image or a video; {one.reason}", next_step="save it as JPEG, PNG or mp4"
            )
        yield one


def _frame_in_memory(image: object) -> Frame:
    """Return an array or a PIL image as a frame without a file."""
    import numpy as np
    from PIL import Image

    if isinstance(image, Image.Image):
        return Frame(Path(), "", 0, None, None, media.upright_rgb(image))
    if not isinstance(image, np.ndarray):
        raise UsageError(f"{_EXPECTED}; found {type(image).__name__}", next_step='predict("image.jpg")')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(
            f"{_EXPECTED}; found an array of shape {image.shape} and type {image.dtype}",
            next_step="convert it first, for example with PIL.Image.fromarray(array).convert('RGB')",
        )
    return Frame(Path(), "", 0, None, None, np.ascontiguousarray(image))
