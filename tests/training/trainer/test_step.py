"""One step of the trainer: what moves, by which loss, on which batch, and what the log says."""

import pytest
import torch

from jina.training.config_sections import LossSection, LossWeights
from jina.training.global_batch import BatchError
from tests.checkpointing import NAME
from tests.training.trainer.inspection import first_batch, parameters_of, trained_of

SINGLE_ONLY = LossWeights(multi=0.0, kl=0.0)


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
    del distinct["elsewhere"]
    assert masked < batch_of.compute_loss(batch_of.model, distinct) - 1e-4


def test_an_answer_that_only_a_row_elsewhere_names_is_no_negative(make_trainer, rows):
    also_right = {**rows[0], "positive": rows[1]["positive"]}
    trainer = make_trainer(given=[rows[0], also_right, *rows[1:]])
    batch = trainer.data_collator([trainer.train_dataset[i] for i in (0, 2, 3, 4)])
    masked = trainer.compute_loss(trainer.model, dict(batch))
    del batch["elsewhere"]
    assert masked < trainer.compute_loss(trainer.model, batch) - 1e-4


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
        trainer = make_trainer(**{NAME: checkpointing}, dropout=0.1)
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
