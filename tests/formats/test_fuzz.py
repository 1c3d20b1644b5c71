"""Every reader on mutated inputs: it reads them or refuses them with an error of ours, and its books balance."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

import pytest

from helpers.fuzzing import failure, mutated, targets

TARGETS = targets()
FEW, MANY = 40, 2000  # inputs for each reader


def run(name: str, count: int, seed: int, folder: Path) -> None:
    logging.disable(logging.WARNING)
    try:
        for number in range(count):
            data = mutated(TARGETS[name].seeds, random.Random(f"{name} {seed} {number}"))
            work = folder / str(number)
            work.mkdir()
            assert not (wrong := failure(TARGETS[name], data, work)), (name, seed, number, wrong, data[:300])
            shutil.rmtree(work)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", TARGETS)
def test_unchanged_seeds_are_answered(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(TARGETS[name].seeds):
        (tmp_path / str(number)).mkdir()
        assert failure(TARGETS[name], seed, tmp_path / str(number)) == ""


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_are_read_or_refused(name: str, tmp_path: Path) -> None:
    run(name, FEW, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutated_inputs_are_read_or_refused(name: str, tmp_path: Path) -> None:
    run(name, MANY, 1, tmp_path)
