"""What every record of a module has to satisfy: it is immutable, and a misspelled field is an error."""

from __future__ import annotations

import dataclasses
import inspect
from types import ModuleType


def records(module: ModuleType) -> list[type]:
    """Return the dataclasses that a module defines."""
    return [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if dataclasses.is_dataclass(one) and one.__module__ == module.__name__
    ]


def is_fixed(record: type) -> bool:
    """Say if a record's fields can neither be set nor added to."""
    return bool(record.__dataclass_params__.frozen) and "__slots__" in vars(record)  # type: ignore[attr-defined]
