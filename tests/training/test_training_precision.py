"""How the training step is chosen for a machine, and that the fast one computes the same as the plain one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from facemask_train.core.config import TrainSettings, parse
from facemask_train.core.errors import UsageError
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.training.plan import ProcessPlan, plan_training, replan, trainer_overrides
from facemask_train.training.precision import Machine, plan_step, read_machine

CPU = Machine("cpu", cuda=False, cores=2, bf16=False)
EPYC = replace(CPU, bf16=True)
V100 = Machine("V100", cuda=True, cores=8, bf16=False)
H100 = replace(V100, device="H100", bf16=True)


@pytest.mark.parametrize(
    ("machine", "setting", "precision", "why"),
    [
        (CPU, "auto", "fp32", "only emulates bfloat16"),
        (EPYC, "auto", "bf16", "computes in bfloat16"),
        (V100, "auto", "fp16", "only emulates bfloat16"),
        (H100, "auto", "bf16", "computes in bfloat16"),
        (EPYC, "fp32", "fp32", "requested"),
        (CPU, "bf16", "bf16", "this device only emulates it"),
        (H100, "fp16", "fp16", "requested"),
    ],
)
def test_the_precision_is_the_fastest_of_the_device(machine: Machine, setting: str, precision: str, why: str) -> None:
    step = plan_step(TrainSettings(precision=setting), machine)  # type: ignore[arg-type]
    assert step.precision == precision
    assert why in step.reasons["precision"]


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="no fast float16"):
        plan_step(TrainSettings(precision="fp16"), EPYC)


def test_each_choice_can_be_turned_off_and_is_recorded() -> None:
    off = plan_step(TrainSettings(precision="fp32", channels_last=False, fused=False, compile=False, threads=1), EPYC)
    assert (off.precision, off.channels_last, off.fused, off.compile, off.threads) == ("fp32", False, False, False, 1)
    assert off.reasons["channels_last"] == off.reasons["fused"] == off.reasons["compile"] == "turned off"
    assert (
        off.describe()
        == "a step in float32, channels first, plain optimizer, 1 thread; losses and validation in float32"
    )
    on = plan_step(TrainSettings(compile=True, optimizer="NAdam"), EPYC)
    assert (on.compile, on.fused, on.threads) == (False, False, 2)
    assert "a GPU only" in on.reasons["compile"]
    assert "NAdam has no fused kernel" in on.reasons["fused"]


def test_float16_does_not_use_the_fused_sgd() -> None:
    step = plan_step(TrainSettings(precision="fp16", fused=True), H100)
    assert not step.fused
    assert "has no momentum" in step.reasons["fused"]
    assert plan_step(TrainSettings(precision="fp16", optimizer="AdamW"), H100).fused
    assert plan_step(TrainSettings(compile=True), H100).compile
    assert plan_step(TrainSettings(), replace(H100, processes=4)).threads == 2
    assert plan_step(TrainSettings(), replace(CPU, processes=4)).threads == 1


def test_a_switch_accepts_only_auto_true_and_false() -> None:
    with pytest.raises(UsageError, match="'auto', True or False"):
        parse(TrainSettings, {"channels_last": "maybe"}, where="x")


def test_a_plan_is_kept_on_its_machine_and_remade_on_another() -> None:
    settings = TrainSettings()
    process = ProcessPlan(0, "here", "cpu", 64)
    plan = plan_training(settings, "x.pt", machine=EPYC, processes=[process], defaults={})
    edited = replace(plan, step=replace(plan.step, precision="fp32"))
    assert replan(edited, settings, machine=EPYC, processes=[process]) == (edited, [])
    other = replace(CPU, cores=4)
    moved, changes = replan(plan, settings, machine=other, processes=[process, process])
    assert moved.step == plan_step(settings, other)
    assert changes == [
        "cores 2 -> 4", "bf16 True -> False", "precision bf16 -> fp32", "threads 2 -> 4", "training processes 1 -> 2",
    ]  # fmt: skip
    assert replace(moved, step=plan.step, machine=plan.machine, processes=plan.processes) == plan


def test_the_trainer_is_constructed_from_the_plan() -> None:
    settings = TrainSettings(lr0=0.002, batch=8, extra={"plots": True, "nbs": 8})
    plan = plan_training(settings, "x.pt", machine=CPU, processes=[ProcessPlan(0, "here", "cpu", 8)], defaults={})
    paths = {"data": "d.yaml", "save_dir": "/r", "project": "p", "device": "cpu"}
    overrides = trainer_overrides(plan, **paths)
    expected = {
        "lr0": 0.002,
        "batch": 8,
        "plots": True,
        "nbs": 8,
        "augmentations": [],
        "model": "x.pt",
        "data": "d.yaml",
    }
    assert {key: overrides[key] for key in expected} == expected
    resumed = trainer_overrides(plan, **paths, checkpoint="last.pt")
    assert (resumed["model"], resumed["resume"], "lr0" in resumed) == ("last.pt", "last.pt", False)


def test_this_machine_can_be_described() -> None:
    machine = read_machine("cpu", "cpu")
    assert (machine.cuda, machine.processes) == (False, 1)
    assert machine.cores >= 1


def batch_of(images: torch.Tensor) -> dict[str, Any]:
    count = len(images)
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).repeat(count, 1)
    return {"img": images, "batch_idx": torch.arange(count).float(), "cls": torch.zeros(count, 1), "bboxes": boxes}


def losses_of(model: Any, precision: str, *, channels_last: bool) -> tuple[float, torch.Tensor]:
    """Return the loss of one batch and the gradient of the first weight, by the trainer's own method."""
    from types import SimpleNamespace

    from facemask_train.training.loop import Loop

    settings = TrainSettings(precision=precision, channels_last=channels_last)  # type: ignore[arg-type]
    step = plan_step(settings, CPU)
    held = SimpleNamespace(plan=SimpleNamespace(step=step), device=torch.device("cpu"), model=model, world_size=0)
    held.autocast = lambda: Loop.autocast(held)
    images = torch.linspace(0, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    if channels_last:
        model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    loss, parts = Loop._compute_losses(held, batch_of(images))  # type: ignore[arg-type]
    assert loss.dtype == torch.float32
    assert {part.dtype for part in parts.values()} == {torch.float32}
    model.zero_grad()
    loss.backward()
    return float(loss.detach()), next(model.parameters()).grad.flatten().clone()


def small_model() -> Any:
    open_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel("yolov5n.yaml", nc=2, verbose=False)
    model.args = get_cfg()
    return model.train()


def test_the_fast_step_computes_the_same_as_the_plain_one() -> None:
    plain, plain_gradient = losses_of(small_model(), "fp32", channels_last=False)
    last, last_gradient = losses_of(small_model(), "fp32", channels_last=True)
    assert last == pytest.approx(plain, rel=1e-4)
    assert torch.nn.functional.cosine_similarity(plain_gradient, last_gradient, dim=0) > 0.999
    # which anchors an untrained model's loss is made of turns on small differences, so it jumps where numbers do not
    half, _ = losses_of(small_model(), "bf16", channels_last=True)
    assert half == pytest.approx(plain, rel=0.15)
    assert half != plain


def test_a_fused_optimizer_takes_the_same_steps() -> None:
    walks = []
    for fused in (False, True):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, fused=fused)
        for _ in range(5):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
        walks.append(weight.detach())
    assert torch.allclose(*walks, rtol=1e-5, atol=1e-7)
