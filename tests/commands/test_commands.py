"""`python -m jina`: the table of commands, help a terminal can show, and words it doesn't know."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from jina.__main__ import COMMANDS, main
from jina.commands.option_parser import OptionParser

ROOT = Path(__file__).parents[2]
NAMES = [command.name for command in COMMANDS]


@pytest.fixture
def end(capsys, monkeypatch):
    """Return a function that runs words argparse ends at: exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main(words)
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


def test_the_overview_lists_each_command_and_imports_none():
    code = (
        "import sys; from jina.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: sys.exit(end.code or 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0
    for command in COMMANDS:
        assert command.name in result.stdout
        assert command.help in result.stdout


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_fits_80_columns(end, name):
    code, out, _ = end(*filter(None, [name]), "--help")
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_command_explains_itself_and_says_what_bad_input_is(end, command):
    module = import_module(f"jina.commands.{command.module}")
    assert module.__doc__.split()[:5] == end(command.name, "--help")[1].split("\n\n")[1].split()[:5]
    assert all(issubclass(error, ValueError) for error in module.BAD_INPUT)


def test_no_command_is_an_error(end):
    code, _, err = end()
    assert code == 2
    assert "required: COMMAND" in err


def test_a_misspelt_command_is_told_the_right_one(end):
    code, _, err = end("validat", "train.jsonl")
    assert code == 2
    assert "COMMAND: is unknown; got validat; did you mean validate?" in err


def test_a_strange_command_is_told_all(end):
    code, _, err = end("xyzzy")
    assert code == 2
    assert f"there are {', '.join(NAMES)}" in err


def test_misspelt_options_are_told_the_right_ones_before_a_missing_one_is_missed(end):
    code, _, err = end("tiny-checkpoint", "--ouput=x", "--sed", "-1")
    assert code == 2
    assert "--ouput: is unknown; got --ouput; did you mean --output?" in err
    assert "--sed: is unknown; got --sed; did you mean --seed?" in err
    assert "required" not in err


def test_an_option_is_not_abbreviated(end):
    assert end("tiny-checkpoint", "--out", "x")[0] == 2


def test_a_missing_option_is_named(end):
    code, _, err = end("tiny-checkpoint", "--seed", "-1")
    assert code == 2
    assert "--output" in err


def test_words_behind_two_dashes_are_no_options(caplog):
    assert main(["validate", "--", "--nowhere.jsonl"]) == 2
    assert "--nowhere.jsonl: is not a file" in caplog.text


def test_bad_input_ends_with_2_and_its_message(tmp_path, caplog):
    assert main(["tiny-checkpoint", "--output", str(tmp_path)]) == 0
    assert main(["tiny-checkpoint", "--output", str(tmp_path)]) == 2
    assert str(tmp_path) in caplog.text


def test_an_interruption_ends_without_a_traceback(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jina.commands.tiny_checkpoint.run", interrupted)
    assert main(["tiny-checkpoint", "--output", str(tmp_path)]) == 130


# Options whose value is another thing in another command.
OTHER_THINGS = {"--output", "--vectors", "--json"}


def options_of(command):
    parser = OptionParser(prog=command.name)
    import_module(f"jina.commands.{command.module}").add_options(parser)
    return [action for action in parser._actions if action.option_strings]


def test_an_option_takes_the_same_kind_of_value_in_every_command():
    kinds = {}
    for command in COMMANDS:
        for action in options_of(command):
            kinds.setdefault(action.option_strings[-1], set()).add((action.metavar, action.type))
    assert {name for name, found in kinds.items() if len(found) > 1} <= OTHER_THINGS


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_every_option_is_explained(command):
    assert [action.option_strings for action in options_of(command) if not action.help] == []
