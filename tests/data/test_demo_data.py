"""The demo set: sound, licensed, split without leaks; and the examples of data/README.md."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from jina.data.image_loading import load_image, pixel_identity
from jina.data.multimodal_dataset import MultimodalDataset
from jina.data.records import FIELDS, RecordError, parse_line

DATA = Path(__file__).resolve().parents[2] / "data"
DEMO = DATA / "demo"
SPLITS = ("train", "eval")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, object]]]:
    """The rows of both splits as plain JSON."""
    return {
        split: [json.loads(line) for line in (DEMO / f"{split}.jsonl").open(encoding="utf-8")]
        for split in SPLITS
    }


class TestDemo:
    def test_both_splits_load_and_hold_the_whole_set(self) -> None:
        train, held_out = (
            MultimodalDataset(DEMO / f"{split}.jsonl", tasks=["retrieval"]) for split in SPLITS
        )
        assert (len(train), len(held_out)) == (679, 120)
        assert train.summary.distinct_images + held_out.summary.distinct_images == 509
        assert set(train.summary.shapes) == {"image → text"}

    def test_no_picture_and_no_caption_is_in_both_splits(
        self, rows: dict[str, list[dict[str, object]]]
    ) -> None:
        def contents(split: str) -> tuple[set[bytes], set[str]]:
            files = {row["query_image"] for row in rows[split]}
            pictures = {pixel_identity(load_image(name, root=DEMO)) for name in files}
            captions = {unicodedata.normalize("NFC", row["positive"]) for row in rows[split]}
            return pictures, {caption.casefold().strip() for caption in captions}

        for in_train, in_eval in zip(*map(contents, SPLITS), strict=True):
            assert in_train
            assert in_eval
            assert not in_train & in_eval

    def test_every_source_is_split_about_85_to_15(
        self, rows: dict[str, list[dict[str, object]]]
    ) -> None:
        sizes = {split: Counter(row["source"] for row in rows[split]) for split in SPLITS}
        assert len(sizes["train"]) == 4
        for source, count in sizes["eval"].items():
            assert 0.12 < count / (count + sizes["train"][source]) < 0.18

    def test_every_image_file_is_used_and_no_row_stands_twice(
        self, rows: dict[str, list[dict[str, object]]]
    ) -> None:
        pairs = [(row["query_image"], row["positive"]) for split in SPLITS for row in rows[split]]
        assert len(set(pairs)) == len(pairs)
        assert {name for name, _ in pairs} == {
            f"images/{path.name}" for path in (DEMO / "images").iterdir()
        }

    def test_every_row_names_its_language_and_licence(
        self, rows: dict[str, list[dict[str, object]]]
    ) -> None:
        found = {tuple(sorted(row["metadata"])) for split in SPLITS for row in rows[split]}
        assert found == {("lang", "license")}

    def test_the_notice_counts_right_and_its_licence_texts_are_there(
        self, rows: dict[str, list[dict[str, object]]]
    ) -> None:
        notice = (DEMO / "NOTICE.md").read_text(encoding="utf-8")
        counts = Counter(row["source"] for split in SPLITS for row in rows[split])
        for source, count in counts.items():
            assert re.search(rf"\| `{source}` \| {count}[ ,]", notice)
        texts = {path.name: path.read_text(encoding="utf-8") for path in DEMO.glob("licences/*")}
        assert set(texts) == set(re.findall(r"`([\w.-]+\.txt)`", notice))
        for name, text in texts.items():
            assert text.count("Copyright") >= 1, name
            assert "WARRANT" in text, name


class TestReadme:
    def test_every_example_line_is_sound(self) -> None:
        readme = (DATA / "README.md").read_text(encoding="utf-8")
        lines = re.search(r"```json\n(.*?)```", readme, re.DOTALL)[1].splitlines()
        assert len(lines) >= 5
        for number, line in enumerate(lines, start=1):
            parse_line(line.encode(), file="README.md", line=number)

    def test_every_field_is_documented(self) -> None:
        readme = (DATA / "README.md").read_text(encoding="utf-8")
        assert all(f"`{field}`" in readme for field in FIELDS)

    def test_the_error_it_shows_is_the_one_that_comes(self) -> None:
        readme = (DATA / "README.md").read_text(encoding="utf-8")
        shown = re.search(r"^(train\.jsonl:3: .*)$", readme, re.MULTILINE)[1]
        with pytest.raises(RecordError) as refusal:
            parse_line(b'{"query_image": "a.jpg", "postive": "a cat"}', file="train.jsonl", line=3)
        assert shown in refusal.value.problems
