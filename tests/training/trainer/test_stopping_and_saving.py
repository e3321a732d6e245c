"""When a run stops by itself, what it has saved, and how another goes on."""

import json

import pytest
import torch
from safetensors.torch import load_file

from jina.models.contrastive_loss import ContrastiveLoss
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training.callbacks import DivergedError
from jina.training.checkpointing import FILES, MANIFEST
from jina.training.config_sections import LossWeights
from jina.training.step_figures import StepFigures, signs_of_collapse
from tests.training.trainer.inspection import trained_of

SINGLE_ONLY = LossWeights(multi=0.0, kl=0.0)


# --- when it stops -------------------------------------------------------------------------------


def test_embeddings_that_have_become_one_are_warned_of_once(caplog):
    vectors = torch.nn.functional.normalize(torch.randn(40, 16), dim=1)
    healthy = signs_of_collapse(vectors)
    collapsed = signs_of_collapse(torch.nn.functional.normalize(vectors * 0.01 + 1, dim=1))
    assert healthy["mean_cosine"] < 0.1
    assert healthy["effective_rank"] > 10
    assert collapsed["mean_cosine"] > 0.99
    figures = StepFigures()
    for signs in (healthy, collapsed, collapsed):
        figures.warn_once(signs)
    assert caplog.text.count("embeddings have collapsed") == 1


def test_a_loss_that_is_not_finite_stops_the_run_at_that_step(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=4)
    healthy = ContrastiveLoss.__call__

    def poisoned(*args, **options):
        factor = float("nan") if trainer.state.global_step == 2 else 1
        loss, parts = healthy(*args, **options)
        return loss * factor, {name: value * factor for name, value in parts.items()}

    monkeypatch.setattr(ContrastiveLoss, "__call__", poisoned)
    with pytest.raises(DivergedError, match="step 3: the loss is not finite; got nan"):
        trainer.train()
    assert trainer.state.global_step == 2
    assert all(torch.isfinite(p).all() for p in trained_of(trainer).values())


def test_a_gradient_that_is_not_finite_stops_before_the_update(make_trainer):
    trainer = make_trainer()
    name, parameter = next(iter(trainer.model.trained_parameters().items()))
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = trained_of(trainer)
    with pytest.raises(DivergedError, match="step 1: gradients that are not finite"):
        trainer.train()
    assert torch.equal(trained_of(trainer)[name], before[name])


def test_a_frozen_tensor_that_moves_stops_the_run(make_trainer):
    trainer = make_trainer()
    norm = trainer.model.model.language_model.norm.weight
    trainer.create_optimizer()
    trainer.optimizer.register_step_post_hook(lambda *_: norm.data.add_(1))
    with pytest.raises(DivergedError, match="1 frozen ones"):
        trainer.train()


def test_an_update_that_moves_nothing_stops_the_run(make_trainer):
    trainer = make_trainer()
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(lambda *_: trainer.model.zero_grad())
    with pytest.raises(DivergedError, match="got 0 of 44 trainable tensors moved"):
        trainer.train()


def test_a_first_step_of_warm_up_with_rate_zero_is_no_alarm(make_trainer):
    trainer = make_trainer(warmup_steps=2.0, max_steps=3)
    trainer.train()
    assert trainer.state.log_history[0]["learning_rate"] == 0
    assert trainer.state.global_step == 3


# --- what is saved -------------------------------------------------------------------------------


def test_a_step_checkpoint_holds_the_adapter_in_float32_and_no_base_weights(make_trainer, tmp_path):
    trainer = make_trainer(save_strategy="steps", save_steps=1.0, max_steps=1)
    trainer.train()
    folder = tmp_path / "out" / "checkpoint-1"
    stored = load_file(folder / "adapters" / "adapter_model.safetensors")
    assert stored.keys() == trained_of(trainer).keys()
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert names == {*FILES, MANIFEST}  # no base weights, nothing pickled


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(make_trainer, tmp_path, step):
    """Steps 1 and 3 lie within an epoch of two steps, step 2 between epochs."""
    saving = {"save_strategy": "steps", "save_steps": 1.0, "max_steps": 4, "dropout": 0.1}
    saving["save_total_limit"] = None
    whole = make_trainer(**saving)
    whole.train()
    expected = trained_of(whole)
    resumed = make_trainer(**saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
    other_seed = make_trainer(**saving, seed=1)
    other_seed.train()
    again, other = trained_of(resumed), trained_of(other_seed)
    assert all(torch.equal(again[name], expected[name]) for name in expected)
    assert not all(torch.equal(other[name], expected[name]) for name in expected)


def test_the_best_checkpoint_can_be_loaded_at_the_end(make_trainer, tmp_path):
    trainer = make_trainer(
        max_steps=2,
        save_strategy="steps",
        eval_strategy="steps",
        save_steps=1.0,
        eval_steps=1.0,
        load_best_model_at_end=True,
        per_device_eval_batch_size=4,
    )
    trainer.train()
    best = tmp_path / "out" / trainer.state.best_model_checkpoint.rsplit("/", 1)[-1]
    stored = load_file(best / "adapters" / "adapter_model.safetensors")
    assert all(torch.equal(tensor, stored[n]) for n, tensor in trained_of(trainer).items())
    history = json.loads((best / "trainer_state.json").read_text())
    assert history["best_metric"] == min(
        h["eval_loss"] for h in history["log_history"] if "eval_loss" in h
    )


def test_the_finished_model_is_a_complete_folder_that_embeds_as_the_one_in_memory(
    make_trainer, tmp_path, tiny_folder
):
    trainer = make_trainer()
    trainer.train()
    trainer.save_model()
    saved = JinaEmbeddingsV4Model.from_pretrained(tmp_path / "out", device="cpu")
    base = JinaEmbeddingsV4Model.from_pretrained(tiny_folder, device="cpu")
    found, expected, before = (
        model.get_single_vector_embeddings(texts=["a red square"])
        for model in (saved, trainer.model, base)
    )
    assert torch.equal(found, expected)
    assert not torch.equal(found, before)
