"""Several adapters, one shared by all tasks, and losses of their own."""

import pytest
import torch
from safetensors.torch import load_file

from jina.training.config_sections import LossSection, LossWeights
from tests.training.trainer.inspection import first_batch, parameters_of, trained_of

SINGLE_ONLY = LossWeights(multi=0.0, kl=0.0)


def moved_tasks(trainer, before):
    names = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    return {task for task in trainer.model.config.task_names for n in names if f".{task}." in n}


def rows_of_two_tasks(rows):
    return [{**row, "task": task} for task in ("retrieval", "code") for row in rows]


def test_several_adapters_are_trained_each_on_the_rows_of_its_task(make_trainer, rows):
    trainer = make_trainer(given=rows_of_two_tasks(rows), tasks=("retrieval", "code"), max_steps=4)
    before = parameters_of(trainer)
    batches = [batch["task"] for batch in trainer.get_train_dataloader()]
    assert sorted(batches) == ["code", "code", "retrieval", "retrieval"]
    trainer.train()
    assert moved_tasks(trainer, before) == {"retrieval", "code"}
    only_code = make_trainer(given=[{**row, "task": "code"} for row in rows], tasks=("code",))
    before = parameters_of(only_code)
    only_code.train()
    assert moved_tasks(only_code, before) == {"code"}


def test_an_adapter_rests_while_another_task_has_its_turn(make_trainer, rows):
    """Without a gradient, Adam's momentum moves nothing, and weight decay shrinks nothing."""
    trainer = make_trainer(
        given=rows_of_two_tasks(rows),
        tasks=("retrieval", "code"),
        max_steps=1,
        weight_decay=0.1,
    )
    before = parameters_of(trainer)
    first = next(iter(trainer.get_train_dataloader()))["task"]
    trainer.train()
    assert moved_tasks(trainer, before) == {first}


def test_a_shared_adapter_learns_from_every_task_and_is_saved_as_all_three(
    make_trainer, rows, tmp_path
):
    trainer = make_trainer(
        given=rows_of_two_tasks(rows), tasks=("retrieval", "code"), shared=True, max_steps=3
    )
    optimized = {
        id(p) for group in trainer.create_optimizer().param_groups for p in group["params"]
    }
    assert len(optimized) == 44  # once, whatever its names
    trainer.train()
    trainer.save_model()
    stored = load_file(tmp_path / "out" / "adapters" / "adapter_model.safetensors")
    of_task = {
        task: {name.replace(task, "*"): t for name, t in stored.items() if f".{task}." in name}
        for task in trainer.model.config.task_names
    }
    first, *others = of_task.values()
    assert len(first) == 44
    assert all(torch.equal(other[name], first[name]) for other in others for name in first)
    assert any(tensor.any() for name, tensor in first.items() if "lora_B" in name)


def test_a_shared_run_resumes_with_the_same_bits(make_trainer, rows, tmp_path):
    options = {
        "given": rows_of_two_tasks(rows), "tasks": ("retrieval", "code"), "shared": True,
        "save_strategy": "steps", "save_steps": 1.0, "max_steps": 3, "dropout": 0.1,
        "loss": LossSection(learn_temperature=True),
    }  # fmt: skip
    whole = make_trainer(**options)
    whole.train()
    resumed = make_trainer(**options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    expected, found = trained_of(whole), trained_of(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(resumed.temperature(), whole.temperature())
    assert whole.temperature().item() != pytest.approx(0.02, abs=1e-6)


@pytest.mark.parametrize("learned", [False, True])
def test_a_temperature_moves_only_if_it_is_learned(make_trainer, learned):
    trainer = make_trainer(loss=LossSection(temperature=0.05, learn_temperature=learned))
    trainer.train()
    assert (trainer.temperature().item() == pytest.approx(0.05, rel=1e-6)) is not learned
    assert trainer.state.log_history[-2]["temperature"] > 0


def test_rated_rows_are_learned_by_their_order(make_trainer):
    """Four pairs, rated against what an untrained model thinks of them."""
    pairs = [("red", "ruby"), ("green", "a green square"), ("blue", "sea"), ("black", "xyzzy")]
    rated = [
        {"query": a, "positive": b, "task": "text-matching", "score": score}
        for score, (a, b) in enumerate(pairs)
    ]
    trainer = make_trainer(
        given=rated, tasks=("text-matching",), max_steps=20, learning_rate=3e-3, logging_steps=1.0
    )
    batch = first_batch(trainer)
    assert sorted(batch["ratings"].tolist()) == [0, 1, 2, 3]
    trainer.train()
    losses = [step["single_loss"] for step in trainer.state.log_history if "single_loss" in step]
    assert losses[-1] < losses[0] / 4
    texts = [list(side) for side in zip(*pairs, strict=True)]
    left, right = (
        trainer.model.get_single_vector_embeddings(texts=side, task_label="text-matching")
        for side in texts
    )
    scores = (left * right).sum(1).tolist()
    assert scores == sorted(scores)


def test_rated_and_plain_rows_never_share_a_batch(make_trainer, rows):
    plain = [{"query": f"a {n}", "positive": f"b {n}", "task": "text-matching"} for n in range(8)]
    rated = [{**row, "score": n / 8} for n, row in enumerate(plain)]
    trainer = make_trainer(given=plain + rated, tasks=("text-matching",))
    kinds = ["ratings" in batch for batch in trainer.get_train_dataloader()]
    assert sorted(kinds) == [False, False, True, True]


def test_micro_batches_end_with_the_adapter_of_the_whole_batch(make_trainer):
    """Plain gradient descent, since Adam makes much of the last bit of a tiny gradient."""
    options = {"max_steps": 3, "optim": "sgd", "learning_rate": 0.1}
    whole, cached = (
        make_trainer(tokens_per_micro_batch=tokens, **options) for tokens in (None, 10)
    )
    before = trained_of(whole)
    for trainer in (whole, cached):
        trainer.train()
    found, expected = trained_of(cached), trained_of(whole)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    assert max((tensor - before[n]).abs().max() for n, tensor in expected.items()) > 1e-4
