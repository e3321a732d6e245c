"""Held-out rows are ranked while training."""

import json

import pytest
import torch
from safetensors.torch import load_file

from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.retrieval_metrics import evaluate_retrieval
from jina.training.config_sections import LossSection, LossWeights
from tests.training.trainer.inspection import trained_of

SINGLE_ONLY = LossWeights(multi=0.0, kl=0.0)


@pytest.mark.parametrize("multi", [0.0, 1.0])
def test_evaluation_ranks_the_rows_by_every_trained_vector(make_trainer, multi):
    weights = LossWeights(multi=multi, kl=0.0)
    trainer = make_trainer(loss=LossSection(weights=weights, matryoshka_dims=[16, 64]))
    found = trainer.evaluate()
    expected = evaluate_retrieval(
        trainer.model, trainer.eval_dataset, multi=bool(multi), sizes=(16, 64)
    )
    assert {f"eval_{name}" for name in expected} <= set(found)
    for name, value in expected.items():
        assert found[f"eval_{name}"] == value
    assert ("eval_multi_ndcg@5" in found) == bool(multi)
    assert "eval_dim64_recall@10" in found
    assert "eval_dim32_ndcg@5" not in found
    assert found["eval_dim16_ndcg@5"] != found["eval_ndcg@5"]
    assert trainer.state.log_history[-1]["eval_ndcg@5"] == expected["ndcg@5"]


def test_the_first_line_has_the_figures_of_the_base_model(make_trainer, tiny_folder):
    trainer = make_trainer(eval_on_start=True)
    base = JinaEmbeddingsV4Model.from_pretrained(tiny_folder, device="cpu")
    expected = evaluate_retrieval(base, trainer.eval_dataset)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["step"] == 0
    assert first["eval_ndcg@5"] == expected["ndcg@5"]


def test_evaluating_leaves_the_training_as_it_is(make_trainer):
    plain = make_trainer(dropout=0.2)
    plain.train()
    watched = make_trainer(
        dropout=0.2, eval_on_start=True, eval_strategy="steps", eval_steps=1.0,
        per_device_eval_batch_size=4,
    )  # fmt: skip
    watched.train()
    others = trained_of(watched)
    assert all(torch.equal(others[name], p) for name, p in trained_of(plain).items())
    drawn = make_trainer(dropout=0.2)
    torch.rand(1)  # the control: another draw, and dropout is another
    drawn.train()
    assert not all(torch.equal(p, others[name]) for name, p in trained_of(drawn).items())


def test_the_best_checkpoint_by_ranking_is_kept_and_loaded(make_trainer, monkeypatch, tmp_path):
    values = iter([0.1, 0.9, 0.5, 0.4])

    def ranked(*_, **__):
        return {"ndcg@5": next(values)}

    monkeypatch.setattr("jina.training.jina_trainer.evaluate_retrieval", ranked)
    trainer = make_trainer(
        max_steps=4, eval_strategy="steps", eval_steps=1.0, save_strategy="steps", save_steps=1.0,
        metric_for_best_model="eval_ndcg@5", load_best_model_at_end=True, save_total_limit=1,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "out/checkpoint-2")
    stored = (tmp_path / "out/checkpoint-2/trainer_state.json").read_text()
    assert json.loads(stored)["best_global_step"] == 2
    assert str(tmp_path) not in stored
    best = load_file(tmp_path / "out/checkpoint-2/adapters/adapter_model.safetensors")
    now = trained_of(trainer)
    assert best.keys() == now.keys()
    assert all(torch.equal(now[name], tensor) for name, tensor in best.items())


def test_the_log_line_of_an_evaluation_shows_the_ranking(make_trainer, caplog):
    caplog.set_level("INFO", logger="smartembed")
    make_trainer().evaluate()
    assert "held-out 0/0  nDCG@5 " in caplog.text
    assert "multi nDCG@5 " in caplog.text
