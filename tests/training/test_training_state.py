"""What training knows beside the weights survives a round trip through JSON and tensors."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from jina.models.checkpoint import CheckpointError
from jina.training.training_state import (
    non_finite,
    optimizer_contents,
    random_state,
    restore_optimizer,
    restore_random_state,
    restore_scheduler,
    stored_tensors,
)

HERE, CPU = Path("checkpoint-1"), torch.device("cpu")
OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
    "amsgrad": lambda groups: torch.optim.AdamW(groups, lr=0.1, amsgrad=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.1),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.1, momentum=0.5),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=0.1),
}


def setting(make, *, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    first, second = list(model.parameters())[:2], list(model.parameters())[2:]
    optimizer = make([{"params": first}, {"params": second, "weight_decay": 0.5}])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    names = {parameter: name for name, parameter in model.named_parameters()}
    return model, optimizer, scheduler, names


def step(model, optimizer, scheduler, times=1):
    for number in range(times):
        model(torch.full((1, 3), 1.0 + number)).sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_and_its_schedule_go_on_with_the_same_bits(make):
    model, optimizer, scheduler, names = setting(make)
    step(model, optimizer, scheduler, 3)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    tensors, values = optimizer_contents(optimizer, names)
    tensors = load(save(tensors)) if tensors else {}
    values = json.loads(json.dumps(values))
    schedule = json.loads(json.dumps(scheduler.state_dict()))
    step(model, optimizer, scheduler, 2)

    ends = []
    for is_restored in (True, False):
        again, fresh, later, other_names = setting(make, seed=1)
        again.load_state_dict(weights)
        if is_restored:
            restore_optimizer(fresh, other_names, tensors, values, where=HERE)
            restore_scheduler(later, schedule, where=HERE)
        step(again, fresh, later, 2)
        ends.append(all(map(torch.equal, again.parameters(), model.parameters())))
    assert ends == [True, False]


def test_states_belong_to_names_and_not_to_places():
    model, optimizer, scheduler, names = setting(OPTIMIZERS["adamw"])
    step(model, optimizer, scheduler)
    tensors, values = optimizer_contents(optimizer, names)
    assert tensors.keys() == {
        f"{name}|{key}" for name in names.values() for key in ("step", "exp_avg", "exp_avg_sq")
    }
    assert values["groups"][1]["params"] == ["1.weight", "1.bias"]


@pytest.mark.parametrize("other", ["sgd", "adafactor"])
def test_the_state_of_another_optimizer_is_refused(other):
    model, optimizer, scheduler, names = setting(OPTIMIZERS["adamw"])
    step(model, optimizer, scheduler)
    tensors, values = optimizer_contents(optimizer, names)
    _, fresh, _, other_names = setting(OPTIMIZERS[other])
    with pytest.raises(CheckpointError, match="another optimizer"):
        restore_optimizer(fresh, other_names, tensors, values, where=HERE)


@pytest.mark.parametrize("wrong", ["2.weight|exp_avg", "0.weight|exp_avg"])
def test_a_state_of_no_parameter_or_of_another_shape_is_refused(wrong):
    model, optimizer, scheduler, names = setting(OPTIMIZERS["adamw"])
    step(model, optimizer, scheduler)
    tensors, values = optimizer_contents(optimizer, names)
    _, fresh, _, other_names = setting(OPTIMIZERS["adamw"])
    tensors[wrong] = torch.zeros(7, 7)
    with pytest.raises(CheckpointError, match=f"{re.escape(wrong)}: not of this optimizer"):
        restore_optimizer(fresh, other_names, tensors, values, where=HERE)


def test_a_changed_schedule_goes_on_at_its_step_with_the_new_rate():
    model, optimizer, scheduler, names = setting(OPTIMIZERS["adamw"])
    step(model, optimizer, scheduler, 3)
    tensors, values = optimizer_contents(optimizer, names)
    _, fresh, later, other_names = setting(lambda groups: torch.optim.AdamW(groups, lr=0.4))
    restore_optimizer(fresh, other_names, tensors, values, where=HERE, keep_settings=True)
    restore_scheduler(later, scheduler.state_dict(), where=HERE, replayed_steps=3)
    assert later.last_epoch == 3
    assert fresh.param_groups[0]["lr"] == pytest.approx(0.1)  # 0.4 / 4
    state = fresh.state[next(iter(other_names))]
    assert torch.equal(state["exp_avg"], tensors["0.weight|exp_avg"])


def test_a_schedule_of_another_kind_is_refused():
    _, optimizer, scheduler, _ = setting(OPTIMIZERS["sgd"])
    other = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(CheckpointError, match="another scheduler"):
        restore_scheduler(scheduler, other.state_dict(), where=HERE)


@pytest.mark.parametrize("odd", [0, 1], ids=["nothing left over", "half a pair left over"])
def test_all_generators_draw_the_same_numbers_again(odd):
    def draw():
        return (
            torch.randn(3).tolist(), random.random(), random.gauss(0, 1),  # noqa: S311
            np.random.rand(3).tolist(), np.random.randn(),
        )  # fmt: skip

    for _ in range(odd):
        random.gauss(0, 1)
        np.random.randn()
    state = load(save(random_state(CPU)))
    expected = draw()
    assert draw() != expected
    restore_random_state(state)
    assert draw() == expected


def test_a_process_finds_its_own_numbers_among_those_of_all():
    """They are rows of one tensor, which torch misreads unless they are copied."""
    states = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        states.append(random_state(CPU))
    together = load(save({name: torch.stack([s[name] for s in states]) for name in states[0]}))
    drawn = []
    for row in (2, 0, 1):
        restore_random_state({name: rows[row] for name, rows in together.items()})
        drawn.append(torch.rand(1).item())
    fresh = [torch.manual_seed(seed) and torch.rand(1).item() for seed in (3, 1, 2)]
    assert drawn == fresh
    assert len(set(drawn)) == 3


def test_numbers_that_are_not_finite_are_found_and_integers_are_none():
    tensors = {"a": torch.ones(2), "b": torch.tensor([1.0, torch.inf]), "c": torch.tensor([1])}
    assert non_finite(tensors) == ["b"]


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="unreadable"):
        stored_tensors(tmp_path / "x.safetensors")
