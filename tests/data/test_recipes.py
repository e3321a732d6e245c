"""data/recipes: what is made of the packages' contents, on small copies of their layout."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from data.recipes import common, emoji, manuals, tuxpaint
from jina.data.convert import ConvertError

RECIPES = sorted(Path(common.__file__).parent.glob("*.py"))


def save(file, colour="red"):
    """Save a small picture of one colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 30), colour).save(file)


class TestTuxPaint:
    STAMP = (
        "A zebra.\nde.utf8=Ein Zebra. \nnl.utf8=\nen_GB.utf8=A zebra.\nfr.utf8=Un zèbre = un\n\n"
    )

    @pytest.fixture
    def stamps(self, tmp_path):
        """Two stamps, one a copy of the other, and one that is a drawing without pixels."""
        stamps = tmp_path / "unpacked" / tuxpaint.STAMPS
        for name in ("animals/zebra", "zoo/zebra", "animals/drawing"):
            (stamps / name).parent.mkdir(parents=True, exist_ok=True)
            (stamps / name).with_suffix(".txt").write_text(self.STAMP, encoding="utf-8")
        for name in ("animals/zebra.png", "zoo/zebra.png", "animals/lonely.png"):
            save(stamps / name)
        return tmp_path / "unpacked"

    def test_a_caption_belongs_to_its_language_and_equal_ones_to_the_first(self):
        assert tuxpaint.captions(self.STAMP) == {
            "A zebra.": "en",
            "Ein Zebra.": "de",
            "Un zèbre = un": "fr",
        }

    def test_each_picture_gives_a_row_a_language(self, stamps, tmp_path):
        rows = list(tuxpaint.build(stamps, tmp_path, ()))
        assert [row["metadata"]["lang"] for row in rows] == ["en", "de", "fr"]
        assert {row["query_image"] for row in rows} == {"images/animals/zebra.png"}
        assert (tmp_path / "images/animals/zebra.png").is_file()
        assert not (tmp_path / "images/zoo").exists()

    def test_languages_can_be_chosen(self, stamps, tmp_path):
        (row,) = tuxpaint.build(stamps, tmp_path, ["de"])
        assert row["positive"] == "Ein Zebra."


class TestEmoji:
    @pytest.fixture
    def packages(self, tmp_path):
        """Three emoji in three languages; the second has the picture of the first."""
        unpacked = tmp_path / "unpacked"
        pictures = {"1f431": "red", "1f63a": "red", "2639-fe0f": "blue", "1f9ff": "green"}
        for code, colour in pictures.items():
            save(unpacked / emoji.PICTURES / f"package/assets/{code}.webp", colour)
        names = {
            "de": ["Katze", "Katze lacht", "Stirn", "ohne Bild"],
            "en": ["cat", "cat laughs", "frown", "no picture"],
            "en-gb": ["cat", "cat smiles", "frown", "no picture"],
        }
        for language, labels in names.items():
            codes = ["1F431", "1F63A", "2639", "1F1E6"]
            entries = [{"hexcode": c, "label": name} for c, name in zip(codes, labels, strict=True)]
            file = unpacked / emoji.NAMES / f"package/{language}/data.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(entries), encoding="utf-8")
        return unpacked

    def test_an_emoji_is_found_by_its_code_and_named_once_a_name(self, packages, tmp_path):
        rows = list(emoji.build(packages, tmp_path, ()))
        assert [(row["query_image"], row["positive"], row["metadata"]["lang"]) for row in rows] == [
            ("images/1f431.webp", "cat", "en"),
            ("images/1f431.webp", "Katze", "de"),
            ("images/2639.webp", "frown", "en"),
            ("images/2639.webp", "Stirn", "de"),
        ]

    def test_languages_can_be_chosen(self, packages, tmp_path):
        rows = list(emoji.build(packages, tmp_path, ["en-gb"]))
        assert [row["positive"] for row in rows] == ["cat", "frown"]


class TestManuals:
    def test_the_next_pages_are_no_hard_negatives(self):
        pages = [1, 3, 4, 5, 9]
        found = {page: manuals.neighbours(page, pages) for page in pages}
        assert found == {1: [3], 3: [1, 5], 4: [1, 9], 5: [3, 9], 9: [5]}

    @pytest.fixture
    def manuals_folder(self, tmp_path, monkeypatch):
        """Two English manuals, one of them in German, too."""
        self.stub_library(monkeypatch)
        folder = tmp_path / "unpacked/usr/share/doc/x"
        folder.mkdir(parents=True)
        guide = {"One": 0, " Two \n pages": 2, "Three": 2, "Nowhere": None, " ": 1, "Both": 1}
        files = {
            "guide.en.pdf.gz": gzip.compress(json.dumps(guide).encode()),
            "guide.de.pdf": b'{"Eins": 0}',
            "notes.pdf": b'{"both": 0, "Twice": 1, "twice": 2, "Four": 0}',
            "not a book.pdf": b"",
        }
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return tmp_path / "unpacked"

    def test_a_page_is_asked_for_by_titles_that_stand_once(self, manuals_folder, tmp_path):
        rows = list(manuals.build(manuals_folder, tmp_path, ["en"]))
        assert [(row["query"], row["positive_image"]) for row in rows] == [
            ("One", "images/guide.en.001.png"),
            ("Two pages", "images/guide.en.003.png"),
            ("Three", "images/guide.en.003.png"),
            ("Four", "images/notes.en.001.png"),
        ]
        names = [path.name for path in sorted((tmp_path / "images").iterdir())]
        assert names == ["guide.en.001.png", "guide.en.003.png", "notes.en.001.png"]
        assert Image.open(tmp_path / "images" / names[0]).height == manuals.PAGE_HEIGHT

    def test_hard_negatives_are_pages_of_the_same_document(self, manuals_folder, tmp_path):
        rows = list(manuals.build(manuals_folder, tmp_path, ["en"]))
        assert [row["negative_image"] for row in rows] == [
            ["images/guide.en.003.png"],
            ["images/guide.en.001.png"],
            ["images/guide.en.001.png"],
            [],
        ]
        assert [row["metadata"]["document"] for row in rows] == ["guide"] * 3 + ["notes"]

    def test_translations_are_of_the_same_document(self, manuals_folder, tmp_path):
        (row,) = manuals.build(manuals_folder, tmp_path, ["de"])
        assert (row["query"], row["metadata"]["document"]) == ("Eins", "guide")

    def stub_library(self, monkeypatch):
        """Put books, whose content is their outline in JSON, in the place of pypdfium2."""

        class Page:
            def get_height(self):
                return 448

            def render(self, *, scale):
                picture = Image.new("RGB", (round(317 * scale), round(448 * scale)))
                return SimpleNamespace(to_pil=lambda: picture)

        class Book(list):
            def __init__(self, content):
                super().__init__([Page()] * 3)
                self.entries = json.loads(content)

            def get_toc(self):
                for title, page in self.entries.items():
                    target = page if page is None else SimpleNamespace(get_index=lambda p=page: p)
                    yield SimpleNamespace(
                        get_title=lambda t=title: t, get_dest=lambda target=target: target
                    )

        library = ModuleType("pypdfium2")
        library.PdfDocument = Book
        monkeypatch.setitem(sys.modules, "pypdfium2", library)

    def test_without_the_library_it_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pypdfium2", None)
        with pytest.raises(common.FetchError, match=r"pip install 'pypdfium2>=5,<6'"):
            list(manuals.build(tmp_path, tmp_path, ()))


class TestCommon:
    def rows(self, folder, count=20):
        for number in range(count):
            for language in ("en", "de"):
                save(folder / f"{number}.png", (number, 9, 9))
                yield {
                    "query_image": f"{number}.png",
                    "positive": f"{language} {number}",
                    "metadata": {"lang": language},
                }

    def test_rows_are_split_by_picture_and_written_language_by_language(self, tmp_path):
        common.write_rows(self.rows(tmp_path), tmp_path / "set.jsonl", seed=0)
        parts = {}
        for name in ("train", "eval"):
            lines = (tmp_path / f"set.{name}.jsonl").read_text().splitlines()
            parts[name] = [json.loads(line) for line in lines]
        languages = [row["metadata"]["lang"] for row in parts["train"]]
        assert languages == sorted(languages)
        pictures = [{row["query_image"] for row in rows} for rows in parts.values()]
        assert (len(pictures[0]), len(pictures[1])) == (18, 2)
        assert not pictures[0] & pictures[1]
        assert not list(tmp_path.glob("*unchecked*"))

    def test_documents_stay_whole_if_asked(self, tmp_path):
        rows = [
            {**row, "metadata": {"lang": "en", "document": number % 5}}
            for number, row in enumerate(self.rows(tmp_path))
            if row["metadata"]["lang"] == "en"
        ]
        output = tmp_path / "set.jsonl"
        common.write_rows(rows, output, seed=0, is_split_by_document=True)
        documents = []
        for name in ("train", "eval"):
            lines = output.with_suffix(f".{name}.jsonl").read_text().splitlines()
            documents.append({json.loads(line)["metadata"]["document"] for line in lines})
        assert [len(part) for part in documents] == [4, 1]
        assert not documents[0] & documents[1]

    def test_a_bad_row_leaves_nothing(self, tmp_path):
        rows = [*self.rows(tmp_path, 3), {"query": "q", "metadata": {"lang": "en"}}]
        with pytest.raises(ConvertError, match="positive: is missing"):
            common.write_rows(rows, tmp_path / "set.jsonl", seed=0)
        assert not list(tmp_path.glob("*.jsonl"))

    def test_a_client_that_is_not_there_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(common.FetchError, match="npm: is not on this machine; got npm pack"):
            common.fetch_npm("@a/b@1", tmp_path)

    def test_what_a_failing_client_says_is_passed_on(self, tmp_path, monkeypatch):
        client = tmp_path / "apt-get"
        client.write_text("#!/bin/sh\necho 'E: no such thing' >&2\nexit 100\n")
        client.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(common.FetchError, match=r"failed; got E: no such thing; .*update"):
            common.fetch_debian("stamps", tmp_path)

    def test_an_npm_package_is_unpacked_under_its_name(self, tmp_path, monkeypatch):
        (tmp_path / "package").mkdir()
        (tmp_path / "package/a.json").write_text("{}")
        client = tmp_path / "bin/npm"
        client.parent.mkdir()
        client.write_text(f"#!/bin/sh\ntar -czf b-1.tgz -C {tmp_path} package\n")
        client.chmod(0o755)
        monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
        (tmp_path / "unpacked").mkdir()
        common.fetch_npm("@a/b@1", tmp_path / "unpacked")
        assert (tmp_path / "unpacked/@a/b/package/a.json").read_text() == "{}"
        assert not list((tmp_path / "unpacked").glob("*.tgz"))

    def test_a_recipe_ends_with_2_and_says_why(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(sys, "argv", ["recipe", "--output", str(tmp_path / "out")])

        def fetch(package, folder):
            raise common.FetchError(f"{package}: gone")

        with pytest.raises(SystemExit) as ending:
            common.run_recipe("recipe", None, packages=["stamps"], fetch=fetch)
        assert ending.value.code == 2
        assert "stamps: gone" in caplog.text

    def test_a_recipe_writes_below_its_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["recipe", "--languages", "en"])
        asked = []

        def build(unpacked, output, languages):
            asked.append((list(unpacked.iterdir()), list(languages)))
            return self.rows(output)

        common.run_recipe("tiny", build, packages=[], fetch=None)
        assert asked == [([], ["en"])]
        assert sorted(path.name for path in Path("outputs/data/tiny").glob("*.jsonl")) == [
            "tiny.eval.jsonl",
            "tiny.train.jsonl",
        ]


class TestAll:
    def test_no_recipe_names_an_address(self):
        assert len(RECIPES) == 4
        for file in RECIPES:
            assert not re.search(r"https?:|\w\.(org|net|io)\b", file.read_text(encoding="utf-8"))

    @pytest.mark.parametrize("name", ["tuxpaint", "emoji", "manuals"])
    def test_it_starts_by_the_documented_command(self, name):
        root = Path(__file__).parents[2]
        readme = (root / "data/README.md").read_text(encoding="utf-8")
        assert f"python -m data.recipes.{name}" in readme
        done = subprocess.run(
            [sys.executable, "-m", f"data.recipes.{name}", "--help"],
            cwd=root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0
        assert "--languages" in done.stdout
