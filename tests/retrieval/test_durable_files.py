"""Files that are whole or not there, and folders that know what they are for."""

import hashlib
import subprocess
import sys

import pytest

from jina.retrieval.durable_files import (
    claim_folder,
    locked,
    publish,
    read_json,
    sha256_of,
    write_json,
)
from jina.retrieval.errors import RetrievalError, library


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path):
    def fail(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "shard", fail)
    assert not (tmp_path / "shard").exists()
    publish(tmp_path / "shard", lambda path: path.write_text("whole"))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("shard", "whole")]


def test_a_file_keeps_its_old_content_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "shard"
    file.write_text("old")

    def look(path):
        path.write_text("new")
        assert file.read_text() == "old"

    publish(file, look)
    assert file.read_text() == "new"


def test_a_folder_is_claimed_once_and_gone_on_with(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert claim_folder(folder, "job.json", {"task": "code", "sizes": (1, 2)}) is False
    assert claim_folder(folder, "job.json", {"task": "code", "sizes": (1, 2)}) is True


def test_a_folder_for_something_else_is_refused_with_all_that_differs(tmp_path):
    claim_folder(tmp_path, "job.json", {"task": "code", "dim": 128, "rows": 7})
    with pytest.raises(RetrievalError) as caught:
        claim_folder(tmp_path, "job.json", {"task": "retrieval", "dim": 128, "side": "query"})
    told = [problem.split(": ")[1] for problem in caught.value.problems]
    assert told == ["task", "rows", "side"]
    assert "got 'retrieval' instead of 'code'" in caught.value.problems[0]


def test_a_folder_with_foreign_files_is_left_alone(tmp_path):
    (tmp_path / "photo.png").touch()
    with pytest.raises(RetrievalError, match="holds other files; got photo.png"):
        claim_folder(tmp_path, "job.json", {})
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b"[" * 10**5])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(RetrievalError, match=r"job\.json: (cannot be read|is not a JSON object)"):
        read_json(tmp_path / "job.json")


def test_json_comes_back_as_it_went(tmp_path):
    values = {"a": [1, 2.5, None], "b": "é\n"}
    write_json(tmp_path / "x.json", values)
    assert read_json(tmp_path / "x.json") == values


def test_a_digest_is_that_of_the_whole_content(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_second_writer_waits_for_the_first(tmp_path):
    code = (
        "import fcntl, os, sys\n"
        "folder = os.open(sys.argv[1], os.O_RDONLY)\n"
        "try:\n    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with locked(tmp_path, exclusive=True):
        assert subprocess.run(command).returncode == 7
    assert subprocess.run(command).returncode == 0


def test_a_missing_library_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RetrievalError, match=r"an index: needs faiss.*pip install 'faiss-cpu>="):
        library("faiss", "an index")
