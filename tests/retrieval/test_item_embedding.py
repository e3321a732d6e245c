"""Items to vectors: the model's own vectors, in order, whatever the batches, shards, processes."""

import numpy as np
import pytest
from PIL import Image

from jina.retrieval import item_embedding
from jina.retrieval.item_embedding import Embedder, EmbeddingError, EmbeddingItem


@pytest.fixture(scope="module")
def items(fixture_folder):
    """Texts, images and both, of many lengths, in no order."""
    texts = ["a", "red " * 40, "a cat on a sofa", "ein Hund", "", "sales by region " * 9, "猫"]
    images = sorted((fixture_folder / "images").glob("*.png"))
    items = [EmbeddingItem(text or "blank") for text in texts]
    items[1:1] = [EmbeddingItem(image=image) for image in images[:3]]
    items[5:5] = [EmbeddingItem("in red", image) for image in images[3:]]
    return items


def embed(model, items, role="passage", task="retrieval", multi=True, **options):
    embedder = Embedder(model, task=task, multi=multi, **options)
    batches = list(embedder.embed(items, role))
    assert [batch.start for batch in batches] == list(
        np.cumsum([0, *(len(batch) for batch in batches[:-1])])
    )
    tokens = [vectors for batch in batches for vectors in batch.multi or ()]
    return np.concatenate([batch.single for batch in batches]), tokens


def same(left, right):
    return np.array_equal(left[0], right[0]) and all(map(np.array_equal, left[1], right[1]))


@pytest.fixture(scope="module")
def vectors(jina_model, items):
    return embed(jina_model, items)


def test_vectors_are_those_of_encode_text_and_encode_image(jina_model, items, vectors):
    for item, single, multi in zip(items, *vectors, strict=True):
        if item.text is None:
            encode, content = jina_model.encode_image, item.image
            expected = [encode(content, "retrieval", return_multivector=m) for m in (False, True)]
        elif item.image is None:
            encode, content = jina_model.encode_text, item.text
            expected = [
                encode(content, "retrieval", return_multivector=m, prompt_name="passage")
                for m in (False, True)
            ]
        else:
            continue
        assert np.allclose(single, expected[0], atol=1e-6)
        assert multi.shape == tuple(expected[1].shape)
        assert np.allclose(multi, expected[1], atol=1e-6)
    assert single.dtype == multi.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"tokens_per_batch": 1}, {"tokens_per_batch": 100}])
@pytest.mark.parametrize("shard", [1, 4, 1000])
def test_the_sizes_of_batches_and_shards_change_no_bit(jina_model, items, vectors, shard, options):
    assert same(embed(jina_model, items, items_per_shard=shard, **options), vectors)


def test_rows_of_any_batch_size_have_the_same_bits_at_a_larger_width(fresh_model, tiny_folder):
    """Width 128, where kernels treat short remainders differently, as they do at full size."""
    model = fresh_model(tiny_folder)
    captions = [EmbeddingItem("a b c d e f g "[: 1 + i % 13] * (1 + i // 13)) for i in range(60)]
    together = embed(model, captions)
    for tokens in (1, 20, 70):
        assert same(embed(model, captions, tokens_per_batch=tokens), together)


def test_a_batch_is_filled_up_to_whole_units_behind_its_items(jina_model, items):
    embedder = Embedder(jina_model, task="retrieval")
    sequences = [embedder._sequence(item, "query") for item in items[:2]]
    batch = embedder._pack(sequences)
    assert sum(batch.lengths) % item_embedding.UNIT == 0
    assert batch.lengths[:2] == [len(sequence) for sequence in sequences]
    assert len(batch.lengths) == 3
    assert len(embedder._pack([sequences[0]] * item_embedding.UNIT)) == item_embedding.UNIT


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_each_get_what_one_gets(jina_model, items, vectors, in_processes, count):
    results = in_processes(
        count, lambda p: embed(jina_model, items, processes=p, items_per_shard=5)
    )
    assert len(results) == count
    assert all(same(result, vectors) for result in results)


def test_processes_share_the_batches(jina_model, items, in_processes, monkeypatch):
    opened = []
    load = item_embedding.load_image
    monkeypatch.setattr(
        item_embedding, "load_image", lambda *args, **kw: opened.append(args) or load(*args, **kw)
    )
    in_processes(2, lambda p: embed(jina_model, items, processes=p, tokens_per_batch=50))
    assert len(opened) == sum(item.image is not None for item in items)


def test_role_and_task_make_a_difference_for_texts(jina_model, items, vectors):
    queries = embed(jina_model, items, role="query")[0]
    is_plain = np.array([item.image is None for item in items])
    assert (np.abs(queries - vectors[0]).max(1) > 1e-4).tolist() == is_plain.tolist()
    assert not np.allclose(embed(jina_model, items, task="code")[0], vectors[0], atol=1e-4)


def test_single_vectors_alone_are_the_same_single_vectors(jina_model, items, vectors):
    single, multi = embed(jina_model, items, multi=False)
    assert np.array_equal(single, vectors[0])
    assert multi == []


def test_nothing_gives_nothing(jina_model):
    assert list(Embedder(jina_model, task="retrieval").embed([], "query")) == []


def test_items_are_read_no_further_than_a_shard(jina_model):
    read = []
    stream = (read.append(i) or EmbeddingItem(f"text {i}") for i in range(10))
    next(Embedder(jina_model, task="retrieval", items_per_shard=3).embed(stream, "query"))
    assert read == [0, 1, 2]


def test_pictures_of_one_batch_and_the_next_are_in_memory(jina_model, fixture_folder, monkeypatch):
    image = sorted((fixture_folder / "images").glob("*.png"))[0]
    loaded, computed, ahead = [], [], []
    load, forward = item_embedding.load_image, Embedder._forward

    def counted(*args, **options):
        loaded.append(1)
        ahead.append(len(loaded) - len(computed))
        return load(*args, **options)

    def noted(self, *args):
        result = forward(self, *args)
        computed.append(1)
        return result

    monkeypatch.setattr(item_embedding, "load_image", counted)
    monkeypatch.setattr(Embedder, "_forward", noted)
    embed(jina_model, [EmbeddingItem(image=image)] * 12, tokens_per_batch=1)
    assert max(ahead) <= 3
    assert len(computed) == 12


def test_an_image_in_memory_equals_its_file(jina_model, items, vectors):
    number = next(i for i, item in enumerate(items) if item.text is None)
    with Image.open(items[number].image) as image:
        single = embed(jina_model, [EmbeddingItem(image=image)])[0]
    assert np.array_equal(single[0], vectors[0][number])


class TestRefusals:
    def test_an_image_outside_the_root_is_refused(self, jina_model, fixture_folder, tmp_path):
        outside = fixture_folder / "images" / "0.png"
        items = [EmbeddingItem("a"), EmbeddingItem(image=outside, root=tmp_path, where="row 7")]
        with pytest.raises(EmbeddingError, match=r"row 7: .*lies outside the image folder"):
            embed(jina_model, items)

    def test_all_processes_stop_at_an_image_only_one_of_them_opens(
        self, jina_model, tmp_path, in_processes
    ):
        head = b"\x89PNG\r\n\x1a\n"
        whole = tmp_path / "whole.png"
        Image.new("RGB", (56, 56)).save(whole)
        torn = tmp_path / "torn.png"
        torn.write_bytes(whole.read_bytes()[:60])
        assert torn.read_bytes().startswith(head)
        items = [EmbeddingItem("a"), EmbeddingItem(image=torn, where="torn")]

        def job(processes):
            with pytest.raises(EmbeddingError, match=r"torn: .*cannot be read as an image"):
                embed(jina_model, items, processes=processes, tokens_per_batch=1)
            return processes.rank

        assert in_processes(2, job) == [0, 1]

    def test_an_item_of_nothing_is_refused(self, jina_model):
        with pytest.raises(EmbeddingError, match="row 3: has neither text nor image"):
            embed(jina_model, [EmbeddingItem(where="row 3")])

    def test_an_image_that_leaves_its_text_no_room_is_refused(self, jina_model, fixture_folder):
        item = EmbeddingItem("a", fixture_folder / "images" / "0.png", where="row 4")
        with pytest.raises(EmbeddingError, match="row 4: .*no room for the text"):
            embed(jina_model, [item], max_text_tokens=5)

    def test_an_unknown_role_task_or_size_is_refused(self, jina_model):
        with pytest.raises(ValueError, match="role: unknown; got 'document'"):
            embed(jina_model, [], role="document")
        with pytest.raises(ValueError, match="task: unknown; got 'search'"):
            Embedder(jina_model, task="search")
        with pytest.raises(ValueError, match="items_per_shard: out of range; got 0"):
            Embedder(jina_model, task="code", items_per_shard=0)


def test_a_model_in_training_goes_on_training(fresh_model, items):
    model = fresh_model()
    model.train_adapters("code")
    model.train()
    embed(model, items[:2], task="retrieval")
    assert model.training
    assert model.trained_tasks == ("code",)
    assert model._active_task == "code"
