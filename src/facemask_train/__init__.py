"""fmask: train and evaluate a face-mask detector, from Kaggle archives to a report.

The functions of `facemask_train.api` are here, loaded when they are first used: importing this package is free.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `typing` takes as long to import as all the rest
if TYPE_CHECKING:
    from facemask_train.api import audit, build_dataset, compare, evaluate, fetch, load_model, survey, train

__version__ = "0.1.0"
__all__ = ["__version__", "audit", "build_dataset", "compare", "evaluate", "fetch", "load_model", "survey", "train"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        found: object = getattr(import_module("facemask_train.api"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
