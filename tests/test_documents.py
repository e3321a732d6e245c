"""What the documents say can be typed: commands, files, links and code."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from jina.__main__ import parse_options
from jina.commands import train_options
from jina.training.training_config import FIELDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / folder / "README.md" for folder in ("data", "recipes", "benchmarks")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
SYNOPSIS = re.compile(r"[\[…]|\b[A-Z]{3,}\b")  # brackets and placeholders aren't typed


def commands_of(text):
    """Yield the words of each command line, in blocks and between backquotes."""
    joined = re.sub(r" *\\\n *", " ", text)
    lines = re.findall(r"(?m)^ {4}(\S.*)$", joined) + re.findall(r"`([^`\n]+)`", joined)
    for line in lines:
        found = re.match(r"(?:[A-Z_]+=\S+ )?(?:\S*/)?(python|pytest) ", line)
        if found and not SYNOPSIS.search(line.partition(" ")[2]):
            yield [found[1], *shlex.split(line[found.end() :])]


def complaints_about(words):
    """Yield what would not work."""
    program, *rest = words
    if program == "pytest":
        yield from (
            word for word in rest if word.startswith("tests") and not (ROOT / word).exists()
        )
    elif rest[0] == "train.py":
        settings = train_options.parse_options(rest[1:], "").set
        yield from (one for one in settings if one.partition("=")[0] not in FIELDS)
    elif rest[:2] == ["-m", "jina"] and len(rest) > 3:
        parse_options(rest[2:])
    elif rest[0] == "-m" and find_spec(rest[1]) is None:
        yield rest[1]
    elif rest[0].endswith(".py") and not (ROOT / rest[0]).is_file():
        yield rest[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_can_be_typed_as_it_stands(document):
    for words in commands_of(document.read_text(encoding="utf-8")):
        assert not list(complaints_about(words)), words


def test_the_walk_finds_commands_and_what_is_wrong_with_them():
    block = "    python train.py --set loss.temprature=1 \\\n        --dry-run\n"
    text = f"{block}or `pytest tests/nowhere.py`"
    first, second = commands_of(text)
    assert first == ["python", "train.py", "--set", "loss.temprature=1", "--dry-run"]
    assert list(complaints_about(first)) == ["loss.temprature=1"]
    assert list(complaints_about(second)) == ["tests/nowhere.py"]
    assert list(complaints_about(["python", "examples/gone.py"])) == ["examples/gone.py"]
    with pytest.raises(SystemExit):
        list(complaints_about(["python", "-m", "jina", "mine", "rows.jsonl", "--modle", "x"]))
    everywhere = [c for file in DOCUMENTS for c in commands_of(file.read_text(encoding="utf-8"))]
    assert len(everywhere) > 50


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_piece_of_python_compiles(document):
    for code in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.S):
        compile(code, str(document), "exec")


def test_the_layout_names_every_module_of_the_package():
    text = (ROOT / "docs/layout.md").read_text(encoding="utf-8")
    folders = [path for path in ROOT.glob("jina/*") if path.is_dir() and path.name != "commands"]
    modules = [file for path in folders for file in path.glob("[!_]*.py")]
    unnamed = [
        str(file.relative_to(ROOT))
        for file in modules
        if file.name not in text and not file.stem.endswith("_jina_embeddings_v4")
    ]
    assert not unnamed


def test_no_module_that_the_layout_names_is_gone():
    text = (ROOT / "docs/layout.md").read_text(encoding="utf-8")
    known = {"train.py"} | {file.name for file in ROOT.glob("jina/**/*.py")}
    assert not set(re.findall(r"\b[a-z_0-9]+\.py\b", text)) - known
