"""Every error that fmask raises on purpose, and the exit code that each one ends with.

    FmaskError                1   the root; a bug in fmask
    ├── UsageError            2   a wrong name, option, key or value; names the nearest right one
    ├── DataError             3   an input that cannot be used: a broken archive, unmapped classes
    │   ├── DigestError       3   an archive that differs from the pinned one
    │   └── ClassMapError     3   class ids without names: the user has to say what they mean
    ├── MissingError          4   the output of an earlier step is missing
    ├── CredentialsError      5   Kaggle: no token, a refused one, or a license not yet accepted
    ├── NetworkError          6   no network, no answer, or an unusable answer (404, 429, 5xx)
    ├── StorageError          7   no space, no permission, or another fmask process using the folder
    ├── TrainingError         8   training stopped and cannot continue
    │   └── PeerError         8   another process of the same training failed or is gone
    ├── GateError             9   a condition of --fail-unless was not met
    └── StoppedError        130   a signal (Ctrl-C, SIGTERM) stopped training, which can be resumed

A message names the file, what was expected and what was found; `next_step` is the command to run next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

CLOSE = 0.6
"""The similarity (1: equal) from which a known word is suggested for a typed one."""


class FmaskError(Exception):
    """The root: a message for the user, the next step, and the exit code of the command line."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


class UsageError(FmaskError):
    """A name, option, key or value that fmask does not know."""

    exit_code = 2


class DataError(FmaskError):
    """An input that cannot be used as it is."""

    exit_code = 3


class DigestError(DataError):
    """The content differs from the digest that was pinned."""


class ClassMapError(DataError):
    """Class ids without a names file: guessing would swap the classes."""


class MissingError(FmaskError):
    """A folder, file or run that an earlier step should have created is missing."""

    exit_code = 4


class CredentialsError(FmaskError):
    """There is no Kaggle token, Kaggle refuses it, or the license has not been accepted."""

    exit_code = 5


class NetworkError(FmaskError):
    """The network or the server did not respond as expected."""

    exit_code = 6


class StorageError(FmaskError):
    """The disk is full, a folder cannot be written, or another fmask process has locked it."""

    exit_code = 7


class TrainingError(FmaskError):
    """Training stopped and cannot continue."""

    exit_code = 8


class PeerError(TrainingError):
    """Another process of the same training failed or is gone. `reported`: that process has printed its message."""

    def __init__(self, message: str, *, next_step: str = "", reported: bool = False) -> None:
        super().__init__(message, next_step=next_step)
        self.reported = reported


class GateError(FmaskError):
    """A condition of `--fail-unless` was not met."""

    exit_code = 9


class StoppedError(FmaskError):
    """A signal stopped training. Everything that is needed to resume it is saved."""

    exit_code = 130


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known word closest to `word` (of equals the first), or an empty string."""
    best = closest(word, known)
    return f" (did you mean '{best}'?)" if best else ""


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word closest to `word` (of equals the first), or an empty string if none is close."""
    similarity = {name: difflib.SequenceMatcher(None, name.casefold(), word.casefold()).ratio() for name in known}
    best = max(similarity, key=similarity.__getitem__, default="")
    return best if similarity.get(best, 0) >= CLOSE else ""
