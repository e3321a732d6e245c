"""Two processes on one batch compute what one process computes.

Processes are forked, with what the test has built already in memory, and talk through gloo.
"""

import multiprocessing
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.packing import pack
from jina.training import distributed, global_batch
from jina.training.distributed import gather_sizes, sum_gradients, sum_over_processes
from jina.training.global_batch import gather_batch
from jina.training.gradient_cache import embed

SIZES = [(4, 3), (3, 4), (1, 6), (5, 2), (4, 0), (0, 4)]
TIMEOUT = 60


@pytest.fixture
def in_two_processes(tmp_path):
    """Return a function that runs `work(rank)` in two processes and returns their tensors."""

    def child(work, rank, folder):
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2
        )
        save_file({name: t.contiguous() for name, t in work(rank).items()}, folder / f"{rank}.st")
        dist.barrier()

    def run(work):
        folder = tmp_path / f"group{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=child, args=(work, rank, folder)) for rank in (0, 1)]
        for process in children:
            process.start()
        for process in children:
            process.join(TIMEOUT)
            process.kill()
        assert [process.exitcode for process in children] == [0, 0]
        return [load_file(folder / f"{rank}.st") for rank in (0, 1)]

    return run


def random_step(queries, *, seed=0, rated=False):
    """What one process has of a step: a few queries, ragged positives, sometimes negatives."""
    draw = torch.Generator().manual_seed(seed)

    def whole(low, high, count):
        return torch.randint(low, high, (count,), generator=draw)

    per_row = torch.ones(queries, dtype=torch.int64) if rated else whole(1, 4, queries)
    positives, negatives = int(per_row.sum()), 0 if rated or not queries else seed % 3
    counts = [queries, positives, negatives]
    lengths = whole(1, 5, sum(counts)).tolist()
    vectors = [
        normalize(torch.randn(rows, size, generator=draw, dtype=torch.float64), dim=1)
        for rows, size in ((sum(counts), 8), (sum(lengths), 4))
    ]
    batch = {
        "query_identities": whole(0, 30, queries),
        "positive_identities": whole(20, 40, positives),
        "positive_owners": torch.arange(queries).repeat_interleave(per_row),
    }
    if negatives:
        batch["negative_identities"] = whole(20, 40, negatives)
    if rated:
        batch["ratings"] = whole(0, 4, queries).float()
    return SimpleNamespace(batch=batch, vectors=vectors, lengths=lengths, counts=counts)


def joined(first, second):
    """The step of a single process that has both: queries, positives, negatives of each."""
    offset = first.counts[0]
    batch = {
        key: torch.cat([step.batch[key] for step in (first, second) if key in step.batch])
        for key in {**first.batch, **second.batch}
    }
    owners = [first.batch["positive_owners"], second.batch["positive_owners"] + offset]
    batch["positive_owners"] = torch.cat(owners)
    vectors, lengths = [[], []], []
    for side in range(3):
        for step in (first, second):
            start, end = sum(step.counts[:side]), sum(step.counts[: side + 1])
            tokens = [sum(step.lengths[:stop]) for stop in (start, end)]
            vectors[0].append(step.vectors[0][start:end])
            vectors[1].append(step.vectors[1][slice(*tokens)])
            lengths += step.lengths[start:end]
    return SimpleNamespace(batch=batch, vectors=[torch.cat(v) for v in vectors], lengths=lengths)


def take_step(step, *, symmetric=False):
    """The loss of a process's part, and the gradient of its own vectors."""
    single, multi = (vector.clone().requires_grad_() for vector in step.vectors)
    whole = gather_batch(step.batch, Embeddings(single, TokenVectors(multi, step.lengths)))
    loss = ContrastiveLoss(Weights(1, 1, 0.5), (4, 8), symmetric)
    value, _ = loss(
        whole.queries,
        whole.candidates,
        whole.pairing,
        temperature=torch.tensor(0.1),
        ratings=whole.ratings,
        rows=whole.rows,
        positives=whole.positives,
    )
    value.backward()
    return {"loss": value.detach()[None], "single": single.grad, "multi": multi.grad}


def assert_same_step(parts, whole, steps):
    """The losses of both add up, and each has the gradient of its own vectors."""
    total = sum(part["loss"] for part in parts)
    torch.testing.assert_close(total, whole["loss"], rtol=1e-12, atol=0)
    for part, step in zip(parts, steps, strict=True):
        step.vectors = [part["single"], part["multi"]]
    again = joined(*steps)
    for found, kind in zip(again.vectors, ("single", "multi"), strict=True):
        torch.testing.assert_close(found, whole[kind], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["ranked", "symmetric", "rated"])
def test_uneven_parts_have_the_loss_and_gradients_of_the_whole(in_two_processes, sizes, kind):
    steps = [random_step(n, seed=seed, rated=kind == "rated") for seed, n in enumerate(sizes, 4)]
    options = {"symmetric": kind == "symmetric"}
    whole = take_step(joined(*steps), **options)
    parts = in_two_processes(lambda rank: take_step(steps[rank], **options))
    assert_same_step(parts, whole, steps)


def test_alone_each_part_has_another_loss_and_other_gradients():
    steps = [random_step(n, seed=seed) for seed, n in enumerate((4, 3), 4)]
    whole, parts = take_step(joined(*steps)), [take_step(step) for step in steps]
    with pytest.raises(AssertionError):
        assert_same_step(parts, whole, steps)


def test_copies_in_another_process_are_masked(in_two_processes, monkeypatch):
    """Both processes have the same pair: with no other candidate, there is nothing to lose."""
    steps = [random_step(2, seed=seed) for seed in (3, 6)]
    for step in steps:
        step.batch["query_identities"] = torch.tensor([1, 2])
        step.batch["positive_identities"] = step.batch["positive_owners"] + 7

    def num_negatives(rank):
        own = Embeddings(steps[rank].vectors[0], None)
        whole = gather_batch(steps[rank].batch, own)
        return {"negatives": whole.pairing.num_negatives(), "rows": torch.tensor([*whole.rows])}

    parts = in_two_processes(num_negatives)
    positives = [len(step.batch["positive_owners"]) for step in steps]
    of_first = sum(int((step.batch["positive_owners"] == 0).sum()) for step in steps)
    expected = [sum(positives) - of_first, of_first] * 2
    assert all(part["negatives"].tolist() == expected for part in parts)
    assert [part["rows"].tolist() for part in parts] == [[0, 1], [2, 3]]


def test_what_a_process_knows_of_its_rows_masks_candidates_of_the_other(in_two_processes):
    steps = [random_step(2, seed=seed) for seed in (3, 6)]
    for number, step in enumerate(steps):
        step.batch["query_identities"] = torch.tensor([1, 2]) + 10 * number
        step.batch["positive_identities"] = step.batch["positive_owners"] + 7 + 10 * number
    steps[1].batch["elsewhere"] = torch.tensor([[0, 7], [1, 99]])  # 7 is the first process's

    def roles(rank):
        own = Embeddings(steps[rank].vectors[0], None)
        pairing = gather_batch(steps[rank].batch, own).pairing
        return {"negatives": pairing.tile(0, 4).is_negative, "contents": pairing.column_contents}

    parts = in_two_processes(roles)
    for part in parts:
        is_seven = part["contents"] == part["contents"][0]
        assert not part["negatives"][2][is_seven].any()
        assert part["negatives"][3][is_seven].all()


# ---- with the model ------------------------------------------------------------------------


def test_two_processes_have_the_adapter_gradients_of_one(
    in_two_processes, fresh_model, sequences, relative_error
):
    model = fresh_model(dtype="float64")
    model.train_adapters("retrieval", dropout=0.0)
    model.train()
    parts = [sequences.mixed[:3], sequences.mixed[3:5]]

    def gradients(queries):
        """Each item is its own positive's neighbour: queries and candidates of one process."""
        count = len(queries)
        batch = {
            "query_identities": torch.arange(count) + 100 * len(queries[0]),
            "positive_identities": torch.arange(count) + 1000 * len(queries[0]),
            "positive_owners": torch.arange(count),
        }
        items = [*queries, *reversed(queries)]
        own = embed(model, pack(items), "retrieval", tokens_per_micro_batch=50)
        whole = gather_batch(batch, own)
        value, _ = ContrastiveLoss(Weights(1, 1, 1), (64,))(
            whole.queries, whole.candidates, whole.pairing,
            temperature=torch.tensor(0.1), rows=whole.rows, positives=whole.positives,
        )  # fmt: skip
        value.backward()
        sum_gradients(model.parameters())
        found = {name: p.grad.clone() for name, p in model.trained_parameters().items()}
        model.zero_grad()
        return found

    def whole_gradients():
        items = [*parts[0], *parts[1], *reversed(parts[0]), *reversed(parts[1])]
        own = embed(model, pack(items), "retrieval")
        batch = {
            "query_identities": torch.arange(5),
            "positive_identities": torch.arange(5) + 10,
            "positive_owners": torch.arange(5),
        }
        whole = gather_batch(batch, own)
        value, _ = ContrastiveLoss(Weights(1, 1, 1), (64,))(
            whole.queries, whole.candidates, whole.pairing, temperature=torch.tensor(0.1)
        )
        value.backward()
        found = {name: p.grad.clone() for name, p in model.trained_parameters().items()}
        model.zero_grad()
        return found

    expected = whole_gradients()
    found = in_two_processes(lambda rank: gradients(parts[rank]))
    for of_process in found:
        assert relative_error(of_process, expected) < 1e-12
    assert relative_error(gradients(parts[0]), expected) > 0.1


# ---- the exchanges themselves --------------------------------------------------------------


def test_numbers_and_sums_of_all_processes_are_the_same_everywhere(in_two_processes):
    def work(rank):
        sizes = gather_sizes([rank, 7], torch.device("cpu"))
        total = sum_over_processes(torch.tensor([1.0 + rank]))
        weight = torch.nn.Parameter(torch.full((2,), float(rank)))
        distributed.copy_from_first([weight])
        return {"sizes": torch.tensor(sizes), "total": total, "weight": weight.detach()}

    for part in in_two_processes(work):
        assert part["sizes"].tolist() == [[0, 7], [1, 7]]
        assert part["total"].tolist() == [3.0]
        assert part["weight"].tolist() == [0.0, 0.0]


def test_in_one_process_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr(distributed, "dist", SimpleNamespace(is_initialized=lambda: False))
    step = random_step(3)
    assert torch.isfinite(take_step(step)["loss"]).all()
    assert gather_sizes([1, 2], torch.device("cpu")) == [[1, 2]]
    assert global_batch.rank() == 0
