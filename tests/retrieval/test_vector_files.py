"""Parquet shards: what goes in comes out, and other tools read it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jina.retrieval.errors import RetrievalError
from jina.retrieval.vector_files import VectorBatch, read_note, read_shard, write_shard


def batch_of(count=5, *, single=True, multi=True):
    random = np.random.default_rng(0)
    return VectorBatch(
        ids=[f"id {number}" for number in range(count)],
        texts=["é" if number % 2 else None for number in range(count)],
        images=[None if number % 2 else "a/b.png" for number in range(count)],
        metadata=[{"n": number} if number else None for number in range(count)],
        single=random.normal(size=(count, 8)).astype(np.float32) if single else None,
        multi=[random.normal(size=(n + 1, 4)).astype(np.float32) for n in range(count)]
        if multi
        else None,
    )


def same(found, batch, dtype):
    for name in ("ids", "texts", "images", "metadata"):
        assert getattr(found, name) == getattr(batch, name)
    if batch.single is None:
        assert found.single is None
    else:
        assert found.single.dtype == dtype
        assert np.array_equal(found.single, batch.single.astype(dtype))
    if batch.multi is None:
        assert found.multi is None
    else:
        pairs = zip(found.multi, batch.multi, strict=True)
        assert all(np.array_equal(a, b.astype(dtype)) for a, b in pairs)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("multi", [True, False])
def test_a_shard_comes_back_as_it_went(tmp_path, dtype, single, multi):
    batch = batch_of(single=single, multi=multi)
    write_shard(tmp_path / "x.parquet", batch, dtype=dtype, note={"shard": 3})
    same(read_shard(tmp_path / "x.parquet"), batch, dtype)
    assert read_note(tmp_path / "x.parquet") == {"shard": 3}


def test_a_shard_of_nothing_comes_back_empty(tmp_path):
    nothing = VectorBatch([], [], [], [], np.empty((0, 8), np.float32), [])
    write_shard(tmp_path / "x.parquet", nothing, note={})
    found = read_shard(tmp_path / "x.parquet")
    assert len(found) == len(found.single) == len(found.multi) == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_lists_that_any_reader_of_parquet_understands(tmp_path, dtype):
    batch = batch_of()
    write_shard(tmp_path / "x.parquet", batch, dtype=dtype, note={})
    table = pq.read_table(tmp_path / "x.parquet")
    number = {"float32": pa.float32(), "float16": pa.float16()}[dtype]
    assert table.schema.field("single").type == pa.list_(number)
    assert table.schema.field("multi").type == pa.list_(pa.list_(number))
    row = table.slice(3, 1).to_pylist()[0]
    assert row["single"] == batch.single[3].astype(dtype).tolist()
    assert row["multi"] == batch.multi[3].astype(dtype).tolist()
    assert row["metadata"] == '{"n": 3}'


def test_a_shard_has_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path / name, batch_of(), note={"shard": 0})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-20], lambda raw: b"", lambda raw: b"text" * 9])
def test_a_damaged_shard_is_refused(tmp_path, spoil):
    file = tmp_path / "x.parquet"
    write_shard(file, batch_of(), note={})
    file.write_bytes(spoil(file.read_bytes()))
    for read in (read_shard, read_note):
        with pytest.raises(RetrievalError, match="is no sound file of vectors"):
            read(file)


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    for read in (read_shard, read_note):
        with pytest.raises(RetrievalError, match="is no sound file of vectors"):
            read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "wrong",
    [[[1.0, 2.0], [3.0]], [[1.0, 2.0, 3.0], [4.0]], [[1.0, 2.0], None], [[1.0, 2.0], [3.0, None]]],
)
def test_vectors_of_different_sizes_are_refused(tmp_path, wrong):
    batch = batch_of(2, multi=False)
    write_shard(tmp_path / "x.parquet", batch, note={})
    table = pq.read_table(tmp_path / "x.parquet")
    column = pa.array(wrong, pa.list_(pa.float32()))
    table = table.set_column(table.column_names.index("single"), "single", column)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(RetrievalError, match="is no sound file of vectors"):
        read_shard(tmp_path / "x.parquet")


def test_more_numbers_than_a_file_can_count_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jina.retrieval.vector_files.MAX_NUMBERS", 30)
    with pytest.raises(RetrievalError, match="too many numbers; got 40; use a smaller --shard"):
        write_shard(tmp_path / "x.parquet", batch_of(), note={})
    assert not (tmp_path / "x.parquet").exists()
