"""`KnownImages`: what one process marks, its loader processes leave alone."""

import pytest
import torch
from torch.utils.data import DataLoader

from jina.data.checking.image_headers import ImageFacts
from jina.data.image_loading import pixel_identity
from jina.data.known_images import KnownImages
from jina.data.multimodal_dataset import DataError, DataPolicy, MultimodalDataset


@pytest.fixture
def dataset(rows, write_rows):
    """Eight rows of a picture and its name, whose files are gone as soon as they are known."""
    return MultimodalDataset(write_rows(rows))


def identities(dataset):
    return [dataset.index.images_of(row)[0].identity for row in range(len(dataset))]


def test_only_marked_images_of_these_rows_are_known(dataset):
    known, (first, second, *_) = KnownImages(dataset.index), identities(dataset)
    assert first not in known
    known.mark([first, b"of no row at all"])
    assert (first in known, second in known, b"of no row at all" in known) == (True, False, False)
    assert known.images().tolist() == [dataset.index.queries.images[0]]
    known.mark([first], known=False)
    assert first not in known


def test_rows_without_images_have_no_known_ones(write_rows):
    dataset = MultimodalDataset(write_rows([{"query": "a", "positive": "b"}]))
    assert bytes(16) not in KnownImages(dataset.index)
    assert len(KnownImages(dataset.index).images()) == 0


def test_a_known_image_comes_as_its_facts_and_its_file_is_not_opened(dataset, decoded):
    plain = [dataset[row] for row in (0, 1)]
    dataset.known = KnownImages(dataset.index)
    dataset.known.mark(identities(dataset)[:1])
    decoded.clear()
    known, other = dataset[0], dataset[1]
    assert decoded == ["green.png"]
    assert known.query.image == ImageFacts(56, 84, pixel_identity(plain[0].query.image))
    assert known.query.identity == plain[0].query.identity
    assert known.query.image_identity == plain[0].query.image_identity
    assert other.query.image.size == (56, 84)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_marked_between_two_epochs_no_loader_process_opens(
    dataset, rows, tmp_path, workers
):
    dataset.known = KnownImages(dataset.index)
    loader = DataLoader(dataset, batch_size=4, collate_fn=list, num_workers=workers)
    first = [sample for batch in loader for sample in batch]
    dataset.known.mark(sample.query.image_identity for sample in first)
    for row in rows:
        (tmp_path / row["query_image"]).unlink()
    second = [sample for batch in loader for sample in batch]
    assert all(isinstance(sample.query.image, ImageFacts) for sample in second)
    assert [s.query.identity for s in second] == [s.query.identity for s in first]


def test_a_picture_that_a_batch_repeats_is_decoded_once_under_any_name(
    rows, write_rows, tmp_path, decoded
):
    (tmp_path / "copy.png").write_bytes((tmp_path / "red.png").read_bytes())
    again = {"query": "a copy", "positive_image": "copy.png", "negative_image": "red.png"}
    dataset = MultimodalDataset(write_rows([rows[0], again, rows[0]]))
    batch = list(dataset.__getitems__([0, 1, 2]))
    assert decoded == ["red.png"]
    images = [batch[0].query, batch[1].positives[0], batch[1].negatives[0], batch[2].query]
    assert len({item.image_identity for item in images}) == 1
    assert [isinstance(item.image, ImageFacts) for item in images] == [False, True, True, True]
    list(dataset.__getitems__([0]))
    assert decoded == ["red.png"] * 2  # another batch, other pixels needed


def test_headers_do_not_tell_pictures_apart_so_nothing_is_left_out(rows, write_rows, decoded):
    dataset = MultimodalDataset(write_rows([rows[0]] * 2), policy=DataPolicy(is_deep=False))
    dataset.known = KnownImages(dataset.index)
    dataset.known.mark(identities(dataset))
    list(dataset.__getitems__([0, 1]))
    assert decoded == ["red.png"] * 2


def test_a_known_image_can_be_decoded_after_all(dataset):
    dataset.known = KnownImages(dataset.index)
    dataset.known.mark(identities(dataset))
    wanted = identities(dataset)[3]
    assert pixel_identity(dataset.reload_image(wanted)) == wanted
    assert dataset.reload_image(bytes(16)) is None


def test_a_file_with_other_pixels_than_those_known_is_refused(dataset, tmp_path):
    (tmp_path / "red.png").write_bytes((tmp_path / "blue.png").read_bytes())
    with pytest.raises(
        DataError, match=r"train.jsonl:1: an image has changed since it was checked"
    ):
        dataset.reload_image(identities(dataset)[0])


def test_flags_are_one_byte_a_picture_in_shared_memory(dataset):
    known = KnownImages(dataset.index)
    assert known._is_known.is_shared()
    assert (known._is_known.dtype, len(known._is_known)) == (torch.uint8, 8)
