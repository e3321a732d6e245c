"""Embedding jobs: the vectors are the model's, shards are whole, and a killed job goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jina.retrieval.corpus_embedding import EmbeddingSettings, shortened
from jina.retrieval.embed import EmbedJob, embed
from jina.retrieval.embedded_folder import EmbeddedFolder
from jina.retrieval.errors import RetrievalError
from jina.retrieval.processes import Processes
from jina.retrieval.progress import duration

ROOT = Path(__file__).parents[2]
TEXTS = [f"{word} number {number}" for number in range(5) for word in ("a cat", "the dog", "x")]


@pytest.fixture
def job(tmp_path, fixture_folder, model_loaded_once):
    source = tmp_path / "texts.txt"
    source.write_text("\n".join(TEXTS), encoding="utf-8")
    settings = EmbeddingSettings(model=fixture_folder)
    return EmbedJob(source=source, output=tmp_path / "out", settings=settings, shard_rows=4)


def shards(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.parquet"))}


def everything(folder):
    return list(EmbeddedFolder(folder).read())


def test_texts_get_the_vectors_that_the_model_gives_them(job, jina_model):
    settings = replace(job.settings, vectors=("single", "multi"))
    summary = embed(replace(job, settings=settings))
    assert (summary.rows, summary.shards, summary.made, summary.left) == (15, 4, 4, 0)
    batches = everything(job.output)
    assert [len(batch) for batch in batches] == [4, 4, 4, 3]
    assert [text for batch in batches for text in batch.texts] == TEXTS
    options = {"task": "retrieval", "prompt_name": "passage", "return_numpy": True}
    single = jina_model.encode_text(TEXTS, **options)
    multi = jina_model.encode_text(TEXTS, **options, return_multivector=True)
    found = np.concatenate([batch.single for batch in batches])
    assert found == pytest.approx(single, abs=2e-6)
    for mine, theirs in zip((m for b in batches for m in b.multi), multi, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    queries = jina_model.encode_text(TEXTS, **{**options, "prompt_name": "query"})
    assert np.abs(found - queries).max() > 1e-3


def test_pictures_get_the_vectors_that_the_model_gives_them(job, jina_model, rows, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for row in rows:
        (tmp_path / row["query_image"]).rename(pictures / row["query_image"])
    embed(replace(job, source=pictures))
    batches = everything(job.output)
    names = sorted(row["query_image"] for row in rows)
    assert [id for batch in batches for id in batch.ids] == names
    expected = jina_model.encode_image(
        [pictures / name for name in names], task="retrieval", return_numpy=True
    )
    assert np.concatenate([b.single for b in batches]) == pytest.approx(expected, abs=2e-6)


def test_pictures_shrink_to_max_pixels_in_this_job_alone(job, jina_model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (140, 140, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    settings = replace(job.settings, max_pixels=4000)
    embed(replace(job, source=folder, settings=settings))
    options = {"task": "retrieval", "return_numpy": True}
    image = [folder / "a.png"]
    found = everything(job.output)[0].single
    assert found == pytest.approx(
        jina_model.encode_image(image, max_pixels=4000, **options), abs=2e-6
    )
    assert np.abs(found - jina_model.encode_image(image, **options)).max() > 1e-4


def test_shortened_vectors_are_the_first_numbers_at_length_one(job, jina_model):
    dim = min(jina_model.config.matryoshka_dims)
    embed(replace(job, settings=replace(job.settings, dim=dim)))
    found = np.concatenate([batch.single for batch in everything(job.output)])
    options = {"task": "retrieval", "prompt_name": "passage", "return_numpy": True}
    expected = jina_model.encode_text(TEXTS, truncate_dim=dim, **options)
    assert found == pytest.approx(expected, abs=2e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(shortened(found, dim), found)


def test_half_precision_changes_the_files_and_hardly_the_vectors(job, tmp_path):
    embed(job)
    embed(replace(job, output=tmp_path / "half", dtype="float16"))
    full, half = everything(job.output), everything(tmp_path / "half")
    assert {batch.single.dtype for batch in half} == {np.dtype(np.float16)}
    assert np.abs(full[0].single - half[0].single).max() < 1e-3


def test_a_second_start_makes_only_what_is_missing(job):
    embed(job)
    before = shards(job.output)
    assert embed(job).made == 0
    (job.output / "shard-00002.parquet").unlink()
    (job.output / ".shard-00002.parquet.partial").write_bytes(b"half of it")
    summary = embed(job)
    assert (summary.made, summary.left) == (1, 0)
    assert shards(job.output) == before
    assert not list(job.output.glob(".*partial"))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_processes_make_the_shards_that_one_process_makes(job, tmp_path, order):
    embed(job)
    shared = replace(job, output=tmp_path / "shared")
    summaries = [embed(shared, Processes(rank, 3)) for rank in order]
    assert sum(summary.made for summary in summaries) == 4
    assert max(summary.made for summary in summaries) == 2
    assert summaries[-1].left == 0
    assert [b.single.tolist() for b in everything(shared.output)] == [
        b.single.tolist() for b in everything(job.output)
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dtype": "float16"}, {"dtype"}),
        ({"shard_rows": 5}, {"shard_rows"}),
        ({"settings": {"task": "code", "role": "query"}}, {"task", "role"}),
        ({"settings": {"vectors": ("single", "multi")}}, {"vectors", "multi_dim"}),
        ({"settings": {"max_text_tokens": 9}}, {"max_text_tokens"}),
        ({"settings": {"max_pixels": 5000}}, {"max_pixels"}),
    ],
)
def test_other_settings_are_refused_with_what_differs(job, change, told):
    embed(job)
    if "settings" in change:
        change = {"settings": replace(job.settings, **change["settings"])}
    with pytest.raises(RetrievalError) as caught:
        embed(replace(job, **change))
    assert {problem.split(": ")[1] for problem in caught.value.problems} == told


def test_a_changed_source_or_model_is_refused(job, tiny_folder):
    embed(job)
    with pytest.raises(RetrievalError, match="model: differs from what the folder was started"):
        embed(replace(job, settings=replace(job.settings, model=tiny_folder)))
    job.source.write_text("\n".join([*TEXTS[:-1], "changed"]), encoding="utf-8")
    with pytest.raises(RetrievalError, match="source_digest: differs"):
        embed(job)


def test_shards_of_another_job_are_refused(job, tmp_path):
    embed(job)
    other = replace(job, output=tmp_path / "other", settings=replace(job.settings, task="code"))
    embed(other)
    (other.output / "shard-00001.parquet").replace(job.output / "shard-00001.parquet")
    with pytest.raises(RetrievalError, match="holds shards of another job; got shard-00001"):
        embed(job)


def test_an_unfinished_job_is_not_read(job):
    embed(job, Processes(0, 2))
    with pytest.raises(RetrievalError, match="isn't finished; got 2 of 4 shards missing"):
        EmbeddedFolder(job.output).read()


@pytest.mark.parametrize("change", [{"format": 99}, {"rows": "many"}, {"shard_rows": 0}])
def test_a_manifest_of_something_else_is_refused(job, change):
    embed(job)
    file = job.output / "embed.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RetrievalError, match="embed.json: is no manifest; got .*; embed again"):
        EmbeddedFolder(job.output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shard_rows": 0}, "--shard-rows: out of range; got 0"),
        ({"settings": {"dim": 7}}, "--dim: is no size of this model's vectors; got 7"),
        ({"settings": {"dim": 0}}, "--dim: is no size of this model's vectors; got 0"),
        ({"settings": {"task": "cook"}}, "--task: unknown; got cook"),
        ({"settings": {"max_text_tokens": 0}}, "--max-text-tokens: is too small; got 0"),
        ({"settings": {"max_pixels": 0}}, "--max-pixels: is too small; got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_anything_is_made(job, change, message):
    if "settings" in change:
        change = {"settings": replace(job.settings, **change["settings"])}
    with pytest.raises(RetrievalError, match=message):
        embed(replace(job, **change))
    assert not job.output.exists()


@pytest.fixture
def broken_picture_job(job, tmp_path):
    """A job over six pictures, the fourth of which has a sound header and broken pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (56, 56, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    file = folder / "3.png"
    file.write_bytes(file.read_bytes()[:2000])
    return replace(job, source=folder, shard_rows=2)


def test_a_picture_that_cannot_be_decoded_stops_the_job_and_keeps_what_is_made(broken_picture_job):
    with pytest.raises(RetrievalError, match="3.png: .*cannot be read as an image") as caught:
        embed(broken_picture_job)
    assert "--on-bad-image skip" in caught.value.problems[-1]
    assert list(shards(broken_picture_job.output)) == ["shard-00000.parquet"]


def test_a_picture_that_cannot_be_decoded_is_left_out_if_asked_for_and_told(
    broken_picture_job, caplog
):
    caplog.set_level("INFO", "smartembed")
    with pytest.raises(RetrievalError):
        embed(broken_picture_job)
    job = replace(broken_picture_job, skips_bad_images=True)
    summary = embed(job)
    assert summary.made == 2
    assert [problem.split(":")[0] for problem in summary.skipped] == ["3.png"]
    assert "1 images need attention" in caplog.text
    ids = [id for batch in everything(job.output) for id in batch.ids]
    assert ids == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    assert embed(job).skipped == summary.skipped  # told again, from the shards


def test_a_shard_of_nothing_but_broken_pictures_is_empty(broken_picture_job):
    job = replace(broken_picture_job, skips_bad_images=True, shard_rows=1)
    embed(job)
    assert [len(batch) for batch in everything(job.output)] == [1, 1, 1, 0, 1, 1]


@pytest.mark.slow
def test_a_job_that_is_killed_loses_nothing_and_repeats_at_most_one_shard(job, tmp_path):
    """kill -9 once three shards are there; the second start makes the others."""
    job.source.write_text("\n".join(f"text number {n}" for n in range(2000)), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "jina", "embed", str(job.source), "--model"),
        *(str(job.settings.model), "--output", str(job.output), "--shard-rows", "40"),
        *("--cache", str(tmp_path / "cache")),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(job.output.glob("shard-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = {f: f.stat().st_mtime_ns for f in job.output.glob("shard-*.parquet")}
    assert 3 <= len(there) < 50
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert f"50 shards, {50 - len(there)} made now, 0 still missing" in again.stdout
    assert {f: f.stat().st_mtime_ns for f in there} == there
    whole = replace(job, output=tmp_path / "whole", shard_rows=40)
    embed(whole)
    pairs = zip(everything(job.output), everything(whole.output), strict=True)
    assert all(np.array_equal(found.single, expected.single) for found, expected in pairs)


@pytest.mark.slow
def test_two_launched_processes_share_a_job(job, tmp_path):
    command = [
        *(sys.executable, "-m", "jina", "embed", str(job.source), "--model"),
        *(str(job.settings.model), "--output", str(job.output), "--shard-rows", "4"),
    ]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29691", "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert all("15 items in 4 shards, 2 made now" in text for text in said)
    alone = replace(job, output=tmp_path / "alone")
    embed(alone)
    assert shards(job.output) == shards(alone.output)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (12, "12 s"), (310, "5 min 10 s"), (12000, "3 h 20 min")]
)
def test_times_are_told_in_words(seconds, text):
    assert duration(seconds) == text
