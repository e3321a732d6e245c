"""The loop of pretraining: it learns, and goes on to the same end where it was cut off."""

import pytest
import torch

from recipes import tiny_pretraining
from recipes.tiny_batches import Batches
from recipes.tiny_pretraining import Pretraining, Stage
from tests.recipes.conftest import SMALL

STAGES = [Stage(2, 1e-3, has_pictures=False), Stage(3, 1e-3, has_pictures=True)]


@pytest.fixture
def new_run(tiny_set, tmp_path, monkeypatch):
    """Return a function that starts pretraining in a folder, or goes on with it."""
    monkeypatch.setattr(tiny_pretraining, "SHAPE", SMALL)
    monkeypatch.setattr("recipes.tiny_model.SHAPE", SMALL)

    def start(name, stages=STAGES):
        (tmp_path / name).mkdir(exist_ok=True)
        run = Pretraining(tiny_set, tmp_path / name, stages, 0)
        run.resume()
        return run

    return start


def learn(run, steps):
    """Make some steps and return the losses of each."""
    batches = Batches(run.data, 4)
    plan = run.plan()
    return [run.learn(*next(plan), batches) for _ in range(steps)]


def test_a_run_that_was_cut_off_comes_to_the_same_end(new_run):
    whole, first = new_run("whole"), new_run("parts")
    learn(whole, 5)
    learn(first, 3)
    first.save()
    again = new_run("parts")
    assert again.step == 3
    learn(again, 2)
    for name, weight in whole.trained.items():
        assert torch.equal(weight, again.trained[name]), name
    assert any(not torch.equal(w, first.trained[n]) for n, w in whole.trained.items())


def test_the_plan_goes_from_texts_to_pictures(new_run):
    run = new_run("plan")
    assert [(stage.has_pictures, step) for stage, step in run.plan()] == [
        (False, 0), (False, 1), (True, 0), (True, 1), (True, 2)
    ]  # fmt: skip
    run.step = 4
    assert [step for _, step in run.plan()] == [2]


@pytest.mark.slow
def test_what_is_learned_of_pictures_is_better_known_when_they_come_again(new_run):
    run = new_run("falls", [Stage(40, 3e-3, has_pictures=True)])
    losses = learn(run, 40)
    for name in ("pairs", "picture", "sight"):
        before, after = (sum(found[name] for found in part) for part in (losses[:5], losses[-5:]))
        assert after < 0.9 * before, name


@pytest.mark.slow
def test_what_texts_are_to_become_is_learned_from_texts_alone(new_run, monkeypatch):
    monkeypatch.setattr(tiny_pretraining, "TEXTS_ALONE", 32)
    losses = [found["text"] for found in learn(new_run("texts", [Stage(80, 3e-3, False)]), 80)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_an_averaged_stage_ends_half_way_back_also_when_it_was_cut_off(new_run):
    def run(name, is_averaged):
        stage = Stage(3, 1e-2, has_pictures=True, is_averaged=is_averaged)
        return new_run(name, [Stage(1, 1e-2, has_pictures=False), stage])

    forth = run("forth", False)
    learn(forth, 1)
    before = {name: weight.detach().clone() for name, weight in forth.weights.items()}
    learn(forth, 3)
    cut_off = run("half way", True)
    learn(cut_off, 3)
    cut_off.save()
    half_way = run("half way", True)
    learn(half_way, 1)
    for name, weight in half_way.weights.items():
        torch.testing.assert_close(weight, (before[name] + forth.weights[name]) / 2)
    assert any(not torch.equal(w, forth.weights[n]) for n, w in half_way.weights.items())


def test_views_of_a_later_stage_are_grown_already():
    assert [Stage(4, 1.0, True).growth_at(step) for step in (0, 2)] == [0, 0.5]
    assert [Stage(4, 1.0, True, grown=0.8).growth_at(step) for step in (0, 2)] == [0.8, 0.9]


def test_the_learning_rate_rises_stays_and_falls():
    stage = Stage(200, 1.0, has_pictures=True)
    rates = [stage.rate_at(step) for step in range(200)]
    assert rates[0] < 0.1
    assert rates[30:140] == [1.0] * 110
    assert rates[-1] < 0.05
    assert rates[140:] == sorted(rates[140:], reverse=True)
