"""The training step: what it computes, moves, logs and saves, and when it stops."""

import json

import pytest
import torch
from safetensors.torch import load_file

from jina.data.data_collator import ContrastiveDataCollator
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.contrastive_loss import ContrastiveLoss
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.retrieval_metrics import evaluate_retrieval
from jina.training.callbacks import DivergedError
from jina.training.checkpointing import FILES, MANIFEST
from jina.training.config_sections import DataSection, LossSection, LossWeights, TrainingSection
from jina.training.global_batch import BatchError
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.step_figures import StepFigures, signs_of_collapse
from jina.training.training_config import JinaTrainingConfig

SINGLE_ONLY = LossWeights(multi=0.0, kl=0.0)
QUIET = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "warmup_steps": 0.0}
QUIET |= {"eval_on_start": False, "report_to": "none"}


@pytest.fixture
def make_trainer(tiny_folder, tmp_path, rows, write_rows):
    """Return a function that builds a trainer on the eight rows, or on the rows given."""

    def make(
        *,
        given=None,
        loss=None,
        dropout=0.0,
        dtype="auto",
        bf16=False,
        one_source_per_batch=False,
        tasks=("retrieval",),
        shared=False,
        **training,
    ):
        values = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 2}
        section = TrainingSection(
            **{**QUIET, "output_dir": str(tmp_path / "out"), **values, **training}
        )
        model = JinaEmbeddingsV4Model.from_pretrained(tiny_folder, dtype=dtype, device="cpu")
        model.train_adapters(*tasks, shared=shared, dropout=dropout)
        file = write_rows(given or rows, name=f"rows_{bool(given)}.jsonl")
        dataset = MultimodalDataset(file, tasks=tasks)
        return JinaEmbeddingTrainer(
            model,
            JinaTrainingConfig(training=section).training_arguments(bf16=bf16),
            loss=loss or LossSection(),
            data=DataSection(train=str(file), one_source_per_batch=one_source_per_batch),
            train_dataset=dataset,
            eval_dataset=dataset,
            micro_batches=section,
            data_collator=ContrastiveDataCollator(model.processor, max_text_tokens=64),
        )

    return make


def parameters_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def trained_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.trained_parameters().items()}


def first_batch(trainer):
    return next(iter(trainer.get_train_dataloader()))


# --- the step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi", [0.0, 1.0])
def test_two_steps_move_what_the_loss_reaches_of_the_trained_adapter_and_nothing_else(
    make_trainer, multi
):
    trainer = make_trainer(loss=LossSection(weights=LossWeights(multi=multi, kl=0.0)))
    before = parameters_of(trainer)
    trainer.train()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n in before if ".retrieval." in n}
    projector = {n for n in trained if "projector" in n}  # the single-vector loss doesn't reach it
    assert projector
    assert moved == (trained if multi else trained - projector)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_the_one_computed_by_hand_from_inference_embeddings(make_trainer, symmetric):
    loss = LossSection(
        temperature=0.1, symmetric=symmetric, weights=SINGLE_ONLY, matryoshka_dims=[]
    )
    trainer = make_trainer(loss=loss)
    samples = [trainer.train_dataset[i] for i in range(4)]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(samples))
    queries = trainer.model.get_single_vector_embeddings(images=[s.query.image for s in samples])
    texts = [sample.positives[0].text for sample in samples]
    passages = trainer.model.get_single_vector_embeddings(texts=texts, prompt_name="passage")
    scores = queries @ passages.T / 0.1
    forward = -scores.log_softmax(dim=1).diagonal().mean()
    backward = -scores.log_softmax(dim=0).diagonal().mean()
    expected = (forward + backward) / 2 if symmetric else forward
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert abs(forward - backward) > 1e-3  # the two forms can be told apart


def test_hard_negatives_raise_the_loss_and_rows_may_have_any_number(make_trainer, rows):
    plain = make_trainer()
    ragged = [
        {**row, "negative": ["a grey circle", "a dog"][: i % 3]} for i, row in enumerate(rows)
    ]
    with_negatives = make_trainer(given=ragged)
    batches = [
        t.data_collator([t.train_dataset[i] for i in range(4)]) for t in (plain, with_negatives)
    ]
    assert len(batches[1]["negative_lengths"]) == 3
    assert "negative_lengths" not in batches[0]
    losses = [
        t.compute_loss(t.model, b) for t, b in zip((plain, with_negatives), batches, strict=True)
    ]
    assert losses[1] > losses[0] + 1e-4


def test_two_captions_of_one_image_are_not_each_others_negatives(make_trainer, rows):
    first = rows[0]
    doubled = [first, {**first, "positive": "something red"}, *rows[1:]]
    batch_of = make_trainer(given=doubled)
    samples = [batch_of.train_dataset[i] for i in range(4)]
    masked = batch_of.compute_loss(batch_of.model, batch_of.data_collator(samples))
    distinct = {**batch_of.data_collator(samples), "query_identities": torch.arange(4)}
    assert masked < batch_of.compute_loss(batch_of.model, distinct) - 1e-4


def test_a_query_without_any_negative_is_refused(make_trainer, rows):
    trainer = make_trainer(given=[rows[0]] * 4)
    with pytest.raises(BatchError, match="queries without any negative; got rows"):
        trainer.train()


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulating_the_same_batch_leaves_the_gradient_norm(make_trainer, rows, accumulation):
    def norm(times):
        trainer = make_trainer(
            given=rows[:4] * times,
            gradient_accumulation_steps=times,
            max_steps=1,
        )
        trainer.train()
        return trainer.state.log_history[0]["grad_norm"]

    assert norm(accumulation) / norm(1) == pytest.approx(1, abs=1e-6)


def test_gradient_checkpointing_changes_no_bit_of_the_update(make_trainer):
    results = []
    for checkpointing in (False, True):
        trainer = make_trainer(activation_checkpointing=checkpointing, dropout=0.1)
        trainer.train()
        results.append(trained_of(trainer))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("bf16", [True, False])
def test_under_bf16_the_decoder_computes_in_it_and_adapter_and_loss_stay_float32(
    make_trainer, bf16
):
    trainer = make_trainer(bf16=bf16)
    layer = trainer.model.model.language_model.layers[0].self_attn.q_proj
    seen = set()
    for module in (layer.base_layer, layer):  # the second puts out its adapter's update, too
        module.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    trainer.train()
    assert seen == {torch.bfloat16 if bf16 else torch.float32}
    assert {p.dtype for p in trainer.model.trained_parameters().values()} == {torch.float32}
    assert trainer.compute_loss(trainer.model, first_batch(trainer)).dtype == torch.float32


def test_a_bfloat16_base_trains_its_adapter_in_float32(make_trainer):
    trainer = make_trainer(dtype="bfloat16")
    trainer.train()
    assert trainer.model.dtype == torch.bfloat16
    assert {p.dtype for p in trainer.model.trained_parameters().values()} == {torch.float32}


def batches_of(trainer, epoch=0):
    loader = trainer.get_train_dataloader()
    loader.set_epoch(epoch)
    return [batch["query_identities"].tolist() for batch in loader]


def test_batches_are_the_same_for_any_number_of_loader_processes(make_trainer):
    expected = batches_of(make_trainer())
    assert batches_of(make_trainer(dataloader_num_workers=2)) == expected
    assert batches_of(make_trainer(), epoch=1) != expected
    assert batches_of(make_trainer(seed=1)) != expected


def test_rows_of_one_image_never_meet_in_a_batch(make_trainer, rows):
    captioned_twice = [{**row, "positive": f"{row['positive']} {n}"} for row in rows for n in "ab"]
    for epoch in range(5):
        for batch in batches_of(make_trainer(given=captioned_twice), epoch):
            assert len(set(batch)) == 4


def test_batches_of_one_source_hold_no_other(make_trainer, rows):
    sourced = [{**row, "source": "warm" if i % 2 else "cold"} for i, row in enumerate(rows)]
    trainer = make_trainer(given=sourced, one_source_per_batch=True)
    found = [{trainer.train_dataset[i].source for i in batch} for batch in trainer.batch_sampler]
    assert sorted(map(sorted, found)) == [["cold"], ["warm"]]


# --- tasks and losses ----------------------------------------------------------------------------


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


# --- what is logged ------------------------------------------------------------------------------


def test_each_step_logs_loss_gradient_rate_speed_and_similarities(make_trainer):
    trainer = make_trainer()
    trainer.train()
    step = trainer.state.log_history[0]
    assert step.keys() >= {
        "contrastive_loss",
        "grad_norm",
        "learning_rate",
        "pairs_per_second",
        "tokens_per_second",
        "positive_similarity",
        "negative_similarity",
        "single_loss",
        "single_loss_16",
        "multi_loss",
        "kl_loss",
        "mean_cosine",
        "effective_rank",
    }
    assert -1 <= step["negative_similarity"] <= 1


def test_evaluation_reports_the_mean_loss_of_full_batches(make_trainer):
    trainer = make_trainer(per_device_eval_batch_size=4)
    expected = [
        trainer.compute_loss(trainer.model.eval(), batch).item()
        for batch in trainer.get_eval_dataloader()
    ]
    assert len(expected) == 2
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(expected) / 2, abs=1e-5)


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


# --- ranking held-out rows -----------------------------------------------------------------------


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
