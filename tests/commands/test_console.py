"""What is said on standard output, whatever it can show and whoever reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEAKER = """
import logging
from jina.commands.console import speak
speak()
for number in range(3):
    logging.warning("猫 → %d", number)
    {between}
raise SystemExit(2)
"""


def run(between="", *, encoding="utf-8", command=(sys.executable, "-c")):
    code = SPEAKER.format(between=between)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([*command, code], capture_output=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "? ? {}"), ("latin-1", "? ? {}"), ("utf-8", "猫 → {}")]
)
def test_a_terminal_that_lacks_a_character_shows_a_question_mark(encoding, shown):
    done = run(encoding=encoding)
    assert done.stdout.decode().splitlines() == [shown.format(number) for number in range(3)]
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_reader_who_has_read_enough_stops_neither_work_nor_exit_code(tmp_path):
    marks = tmp_path / "marks"
    piped = ("bash", "-c", '"$0" -c "$1" | true; exit ${PIPESTATUS[0]}', sys.executable)
    done = run(
        f"open({str(marks)!r}, 'a').write('x'); __import__('time').sleep(0.2)", command=piped
    )
    assert (done.returncode, done.stderr) == (2, b"")
    assert marks.read_text() == "xxx"


def test_control_another_failure_is_not_hidden():
    done = run("logging.warning('%d', 'no number')")
    assert b"Logging error" in done.stderr
