"""`encode_*`: the official signatures without the official bugs, and nothing left changed."""

import copy
import pickle
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from jina.data.image_loading import ImageError, load_image

TASKS = ["retrieval", "text-matching", "code"]
CONTROL = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def bfloat16_model(fresh_model):
    """The model in its usual type."""
    return fresh_model(dtype="bfloat16")


@pytest.fixture
def encode(jina_model, golden):
    """Return a function that encodes the golden texts or images under the retrieval task."""

    def run(modality, items=None, **options):
        method = getattr(jina_model, f"encode_{modality}")
        return method(
            getattr(golden, f"{modality}s") if items is None else items, "retrieval", **options
        )

    return run


def is_alike(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# ---- bugs of the official code that must not come back -------------------------------------


def test_text_matching_compares_queries_whatever_the_prompt(fresh_model):
    model = fresh_model()
    query = model.encode_text("a cat", "text-matching", prompt_name="query")
    assert torch.equal(model.encode_text("a cat", "text-matching", prompt_name="passage"), query)
    model.task = "text-matching"
    assert torch.equal(model.encode_text("a cat", prompt_name="passage"), query)
    for task in ("retrieval", "code"):
        both = [model.encode_text("a cat", task, prompt_name=name) for name in ("query", "passage")]
        assert (both[0] - both[1]).abs().max() > 1e-3


@pytest.mark.parametrize("multi", [False, True])
def test_a_bfloat16_model_can_give_numpy(bfloat16_model, golden, multi):
    options = {"return_multivector": multi, "return_numpy": True}
    for found in (
        *bfloat16_model.encode_text(golden.texts, "retrieval", **options),
        *bfloat16_model.encode_image(golden.images, "retrieval", **options),
    ):
        assert found.dtype == np.float32
        assert np.abs(np.linalg.norm(found, axis=-1) - 1).max() < 1e-6


@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: [x[0], x[1:]], lambda x: np.asarray(x[0])]
)
def test_several_images_in_one_place_are_refused(jina_model, loaded_images, wrap):
    with pytest.raises(ImageError):
        jina_model.encode_image(wrap(loaded_images[:3]), "retrieval")


@pytest.mark.parametrize("place", [0, 1])
def test_special_tokens_in_a_text_stay_text(encode, jina_model, place):
    texts = ["a cat", "a dog"]
    texts.insert(place, CONTROL)
    together = encode("text", texts)
    assert_close(together[place], encode("text", CONTROL), rtol=0, atol=1e-6)
    tokens = encode("text", CONTROL, return_multivector=True)
    assert len(tokens) == len(jina_model.processor.text_sequence(CONTROL, prompt="Query"))
    assert len(tokens) > 3 * 5  # three control tokens would be three
    assert (together[place] - encode("text", "")).abs().max() > 1e-2


def test_special_tokens_stay_text_in_a_copy_of_the_processor(jina_model):
    """Worker processes and averaged models get such copies."""
    original = jina_model.processor
    pickled = pickle.loads(pickle.dumps(original))  # noqa: S301 - its own
    expected = original.text_sequence(CONTROL, prompt="Query").input_ids
    for processor in (copy.deepcopy(original), pickled):
        found = processor.text_sequence(CONTROL, prompt="Query")
        assert found.input_ids.tolist() == expected.tolist()


def test_max_pixels_changes_one_call_only_even_if_that_fails(jina_model, golden, encode):
    before = encode("image")
    settings = copy.copy(jina_model.processor.image_settings)
    smaller = encode("image", max_pixels=28 * 28 * 4)
    with pytest.raises(ImageError):
        encode("image", [golden.images[0], "nowhere.png"], max_pixels=28 * 28 * 4)
    assert jina_model.processor.image_settings == settings
    assert is_alike(encode("image"), before)
    assert not is_alike(smaller, before)


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("multi", [False, True])
def test_results_lie_on_the_cpu_in_float32_without_a_graph(encode, modality, multi):
    for vector in encode(modality, return_multivector=multi):
        assert vector.device.type == "cpu"
        assert vector.dtype == torch.float32
        assert not vector.requires_grad
        assert_close(vector.norm(dim=-1), torch.ones(vector.shape[:-1]))


@pytest.mark.parametrize("dim", [0, -16, 17, 63, 128])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_dimension_outside_the_matryoshka_list_is_refused(encode, modality, dim):
    with pytest.raises(ValueError, match=f"truncate_dim: .*got {dim}; use one of .16, 32, 64."):
        encode(modality, truncate_dim=dim)


def test_the_configured_dimension_holds_unless_a_call_names_another(fresh_model, encode):
    model = fresh_model()
    model.config.truncate_dim = 32
    assert len(model.encode_text("a cat", "retrieval")) == 32
    assert len(model.encode_text("a cat", "retrieval", truncate_dim=16)) == 16
    with pytest.raises(ValueError, match="truncate_dim"):
        model.encode_text("a cat", "retrieval", truncate_dim=0)
    whole = encode("text", "a cat")
    assert len(whole) == 64
    expected = whole[:32] / whole[:32].norm()
    assert_close(model.encode_text("a cat", "retrieval"), expected, rtol=0, atol=1e-6)


# ---- what comes back -----------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("as_numpy", [False, True])
def test_the_form_of_the_result_follows_the_input(encode, golden, modality, as_numpy):
    items, kind = getattr(golden, f"{modality}s")[:3], np.ndarray if as_numpy else torch.Tensor
    one = encode(modality, items[1], return_numpy=as_numpy)
    assert isinstance(one, kind)
    assert one.shape == (64,)
    several = encode(modality, items, return_numpy=as_numpy)
    assert isinstance(several, kind if as_numpy else list)
    assert len(several) == 3
    assert_close(several[1], one, rtol=0, atol=1e-6)
    tokens = encode(modality, items[1], return_numpy=as_numpy, return_multivector=True)
    assert isinstance(tokens, kind)
    assert tokens.shape[1:] == (16,)
    ragged = encode(modality, tuple(items), return_numpy=as_numpy, return_multivector=True)
    assert isinstance(ragged, list)
    assert all(isinstance(vectors, kind) for vectors in ragged)
    assert len({len(vectors) for vectors in ragged}) > 1
    assert_close(ragged[1], tokens, rtol=0, atol=1e-6)
    assert len(encode(modality, items[:1])) == 1  # a list of one is a list


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_results_come_in_the_caller_s_order(encode, golden, modality, batch_size):
    items = getattr(golden, f"{modality}s")
    alone = [encode(modality, item) for item in items]
    shuffled = torch.randperm(len(items), generator=torch.Generator().manual_seed(1)).tolist()
    found = encode(modality, (items[i] for i in shuffled), batch_size=batch_size)
    assert_close(found, [alone[i] for i in shuffled], rtol=0, atol=1e-6)
    assert torch.pdist(torch.stack(alone)).min() > 1e-2


def test_items_of_like_length_share_a_batch_and_the_longest_come_first(
    jina_model, golden, monkeypatch
):
    lengths, engine = [], jina_model.hidden_states

    def recorded(batch, task):
        lengths.append(batch.lengths)
        return engine(batch, task)

    monkeypatch.setattr(jina_model, "hidden_states", recorded)
    for encode, items in (
        (jina_model.encode_text, golden.texts),
        (jina_model.encode_image, golden.images),
    ):
        lengths.clear()
        encode(items, "retrieval", batch_size=3)
        together = [length for batch in lengths for length in batch]
        assert together == sorted(together, reverse=True)
        assert len(together) == len(items) > len(lengths) > 1
        assert len(set(together)) > 2


@pytest.mark.parametrize("modality", ["text", "image"])
def test_nothing_in_nothing_out(encode, modality):
    assert encode(modality, []) == []
    assert encode(modality, [], return_multivector=True, return_numpy=True) == []
    assert encode(modality, [], return_numpy=True).shape == (0, 64)
    assert encode(modality, [], return_numpy=True, truncate_dim=16).shape == (0, 16)


def test_two_lines_give_single_and_multi_vectors(jina_model, golden, encode):
    single = jina_model.get_single_vector_embeddings(texts=golden.texts, task_label="retrieval")
    multi = jina_model.get_multi_vector_embeddings(images=golden.images, task_label="retrieval")
    assert single.shape == (7, 64)
    assert is_alike(single, encode("text"))
    assert isinstance(multi, list)
    assert is_alike(multi, encode("image", return_multivector=True))
    options = {"task_label": "code", "prompt_name": "passage"}
    found = jina_model.get_single_vector_embeddings(["a cat"], truncate_dim=16, **options)
    expected = jina_model.encode_text(["a cat"], "code", prompt_name="passage", truncate_dim=16)
    assert is_alike(found, expected)
    assert jina_model.get_single_vector_embeddings("a cat").shape == (1, 64)
    assert jina_model.get_single_vector_embeddings(images=golden.images[0]).shape == (1, 64)
    assert jina_model.get_single_vector_embeddings([]).shape == (0, 64)
    assert jina_model.get_multi_vector_embeddings([]) == []


def test_either_texts_or_images_must_be_given(jina_model, golden):
    for method in (jina_model.get_single_vector_embeddings, jina_model.get_multi_vector_embeddings):
        for arguments in ({}, {"texts": ["a"], "images": golden.images}):
            with pytest.raises(ValueError, match="texts, images: give one"):
                method(**arguments)


def test_a_pil_image_embeds_as_its_file(encode, golden):
    found = encode("image", [Image.open(path) for path in golden.images])
    assert is_alike(found, encode("image"))
    assert is_alike(encode("image", [str(path) for path in golden.images]), found)
    mirrored = [
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in map(load_image, golden.images)
    ]
    assert not any(map(torch.equal, encode("image", mirrored), found))


def test_max_length_cuts_the_prompt_and_the_text(encode, golden):
    text = golden.texts[6]
    whole = encode("text", text, return_multivector=True)
    cut = encode("text", text, return_multivector=True, max_length=9)
    assert len(whole) > 100
    assert_close(cut, whole[:9], rtol=0, atol=1e-6)  # causal: what comes later changes nothing


# ---- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("task", [None, "", "Retrieval", "sts", 3])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_an_unknown_task_is_refused(jina_model, golden, modality, task):
    items = getattr(golden, f"{modality}s")
    with pytest.raises(
        ValueError, match="task: unknown or not set.*retrieval, text-matching, code"
    ):
        getattr(jina_model, f"encode_{modality}")(items, task)


def test_the_task_property_takes_known_tasks_only(fresh_model):
    model = fresh_model()
    with pytest.raises(ValueError, match="task: .*sts"):
        model.task = "sts"
    assert model.task is None
    for task in TASKS:
        model.task = task
        assert torch.equal(model.encode_text("a cat"), model.encode_text("a cat", task))


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ("a cat", {"prompt_name": "document"}, "prompt_name: .*document"),
        ("a cat", {"max_length": 0}, "max_length: .*0"),
        ("a cat", {"max_length": -1}, "max_length: .*-1"),
        (["a cat"], {"batch_size": 0}, "batch_size: .*0"),
        (["a cat"], {"batch_size": -1}, "batch_size: .*-1"),
        (["a cat", None], {}, "texts: .*None"),
        ([["a cat", "a dog"]], {}, "texts: .*a cat"),
        ([b"a cat"], {}, "texts: .*a cat"),
        (["\ud800"], {}, "texts: .*ud800"),
    ],
)
def test_text_arguments_that_make_no_sense_are_refused_by_name(encode, items, options, message):
    with pytest.raises(ValueError, match=message):
        encode("text", items, **options)


@pytest.mark.parametrize("options", [{"max_pixels": 0}, {"max_pixels": -1}, {"batch_size": 0}])
def test_image_arguments_that_make_no_sense_are_refused_by_name(encode, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: "):
        encode("image", **options)


@pytest.mark.parametrize("url", ["https://127.0.0.1:9/a.png", "http://localhost/a", "ftp://x/y"])
def test_urls_are_refused_without_opening_a_socket(encode, golden, monkeypatch, url):
    def refuse(*_, **__):
        pytest.fail("a socket or a look-up")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ImageError, match="is a URL"):
        encode("image", [golden.images[0], url])
    assert encode("text", url).shape == (64,)  # a text is a text


def test_the_tests_themselves_cannot_reach_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="tried to reach"):
        client.connect(("127.0.0.1", 9))
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("here")
        server.listen()
        client.connect("here")


# ---- what is left behind -------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_is_restored_even_after_an_error(fresh_model, monkeypatch, training):
    model = fresh_model()
    model.train_adapters("retrieval", dropout=0.5)
    model.train(training)
    modes = {name: module.training for name, module in model.named_modules()}
    assert {on for name, on in modes.items() if "visual" not in name} == {training}
    assert not any(on for name, on in modes.items() if "visual" in name)  # frozen, never training
    calm = model.encode_text("a cat", "retrieval")
    assert torch.equal(model.encode_text("a cat", "retrieval"), calm)  # no dropout
    monkeypatch.setattr(model, "multi_vectors", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.encode_text("a cat", "retrieval", return_multivector=True)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.is_grad_enabled()


def test_float32_stays_float32_under_somebody_s_autocast(jina_model, golden, encode):
    expected = [*encode("text"), *encode("image")]
    with torch.autocast("cpu", torch.bfloat16):
        found = [*encode("text"), *encode("image")]
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16
    assert is_alike(found, expected)


def test_only_long_jobs_show_a_progress_bar(encode, capsys):
    encode("text", ["a"] * 15, batch_size=1)
    assert capsys.readouterr().err == ""
    encode("text", ["a"] * 16, batch_size=1)
    assert "16/16" in capsys.readouterr().err


def test_the_caller_s_list_is_left_alone(encode, golden):
    texts = list(golden.texts)
    encode("text", texts)
    assert texts == golden.texts
