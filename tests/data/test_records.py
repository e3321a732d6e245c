"""`parse_line` and `read_samples`: the whole contract of data/README.md."""

import ast
import json
import pickle
import sys
from pathlib import Path

import pytest

from jina.data import records
from jina.data.records import FIELDS, Item, Sample, parse_line, read_samples
from tests.data.lines import GOOD, pair, parsed


class TestContract:
    def test_the_smallest_useful_row_is_an_image_and_its_caption(self) -> None:
        assert parsed({"query_image": "a.jpg", "positive": "a cat on a sofa"}) == Sample(
            query=Item(None, "a.jpg"),
            positives=(Item("a cat on a sofa", None),),
            negatives=(),
            task=None,
            source=None,
            score=None,
            id=None,
            metadata=None,
            file="train.jsonl",
            line=7,
        )

    @pytest.mark.parametrize("query", [{"query": "t"}, {"query_image": "i"}])
    @pytest.mark.parametrize("positive", [{"positive": "t"}, {"positive_image": "i"}])
    @pytest.mark.parametrize("negative", [{}, {"negative": "t"}, {"negative_image": "i"}])
    def test_either_side_may_be_text_or_image(
        self, query: dict[str, str], positive: dict[str, str], negative: dict[str, str]
    ) -> None:
        sample = parsed({**query, **positive, **negative})
        for side, given in (
            ((sample.query,), query),
            (sample.positives, positive),
            (sample.negatives, negative),
        ):
            expected = {"t": Item(text="t"), "i": Item(image="i")}
            assert side == tuple(expected[value] for value in given.values())

    def test_text_and_image_on_one_side_are_one_item(self) -> None:
        row = dict.fromkeys(records.SIDES, "t")
        row |= {f"{side}_image": "i" for side in records.SIDES}
        sample = parsed(row)
        assert sample.query == Item("t", "i")
        assert sample.positives == sample.negatives == (Item("t", "i"),)

    def test_a_list_gives_several_items(self) -> None:
        sample = parsed(pair(positive=["a", "b"], negative_image=["x", "y", "z"]))
        assert sample.positives == (Item("a"), Item("b"))
        assert sample.negatives == (Item(image="x"), Item(image="y"), Item(image="z"))

    def test_text_and_image_lists_are_paired_item_by_item(self) -> None:
        row = pair(positive=["a", None, "c"], positive_image=["x", "y", None])
        assert parsed(row).positives == (Item("a", "x"), Item(None, "y"), Item("c", None))

    @pytest.mark.parametrize("count", [0, 1, 2, 37])
    def test_rows_may_have_any_number_of_hard_negatives(self, count: int) -> None:
        texts = [f"negative {number}" for number in range(count)]
        assert parsed(pair(negative=texts)).negatives == tuple(map(Item, texts))

    @pytest.mark.parametrize(
        "text",
        ["a.jpg", "http://example.com/a.png", "data:,a", "images/", "/etc/passwd", "<image>"],
    )
    def test_a_text_that_looks_like_an_image_stays_a_text(self, text: str) -> None:
        assert parsed(pair(query=text)).query == Item(text=text, image=None)

    @pytest.mark.parametrize("task", ["retrieval", "text-matching", "code"])
    def test_the_three_tasks_are_known(self, task: str) -> None:
        assert parsed(pair(task=task)).task == task

    @pytest.mark.parametrize("score", [0, 1, 0.0, 0.5, 5, 5.0, 1e-300])
    def test_a_score_from_0_to_5_is_kept(self, score: float) -> None:
        assert parsed(pair(score=score)).score == score

    def test_source_id_and_metadata_are_carried_through(self) -> None:
        metadata = {"lang": "de", "rank": [1, None, {"a": 2.5}], "query": 3}
        sample = parsed(pair(source="emoji", id="row 1", metadata=metadata))
        assert (sample.source, sample.id, sample.metadata) == ("emoji", "row 1", metadata)
        assert parsed(pair(id=12)).id == "12"

    def test_null_means_that_a_row_has_no_such_field(self) -> None:
        row = dict.fromkeys(FIELDS) | pair()
        assert parsed(row) == parsed(pair())

    @pytest.mark.parametrize(
        "text",
        [
            "caf\u00e9",
            "cafe\u0301",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467",
            "\u202b\u05d0\u05d1\u202c abc",
            "a\u2028b\u2029c\u0085d",
            "tab\tand\nnewline",
            "nul \0 inside",
            "\U00010000",
            "\ufeffa",
            "\ue000",
            "\U000e0fff",
            " padded ",
        ],
        ids=ascii,
    )
    def test_a_text_arrives_letter_by_letter(self, text: str) -> None:
        sample = parsed(pair(query=text))
        assert sample.query.text == text
        escaped = json.dumps(pair(query=text), ensure_ascii=True).encode()
        assert parse_line(escaped, file="train.jsonl", line=7) == sample

    def test_a_sample_is_immutable_hashable_and_survives_pickling(self) -> None:
        sample = parsed(pair(metadata={"a": 1}))
        assert hash(sample) == hash(pickle.loads(pickle.dumps(sample)))  # noqa: S301
        assert sample.where == "train.jsonl:7"
        with pytest.raises(AttributeError):
            sample.line = 8

    def test_the_module_needs_nothing_but_the_standard_library(self) -> None:
        tree = ast.parse(Path(records.__file__).read_text(encoding="utf-8"))
        imported = {
            name.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for name in node.names
        }
        imported |= {
            node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        }
        assert imported <= sys.stdlib_module_names


class TestReadSamples:
    def written(self, folder: Path, data: bytes) -> Path:
        path = folder / "train.jsonl"
        path.write_bytes(data)
        return path

    def test_only_newlines_end_a_line(self, tmp_path: Path) -> None:
        texts = ["a\u2028b", "a\u2029b", "a\u0085b", "a\x1cb", "a\x0bb", "a\x0cb", "a\rb"]
        data = "\n".join(json.dumps(pair(query=text), ensure_ascii=False) for text in texts)
        assert len(data.splitlines()) > len(texts)
        found = list(read_samples(self.written(tmp_path, data.encode())))
        assert [sample.query.text for sample in found] == texts
        assert [sample.line for sample in found] == [1, 2, 3, 4, 5, 6, 7]

    @pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("last", [b"", b"\n", b"\r\n"])
    def test_line_endings_of_windows_and_a_missing_last_one_are_fine(
        self, ending: bytes, last: bytes, tmp_path: Path
    ) -> None:
        data = ending.join([b"{" + GOOD + b"}"] * 3) + last
        found = list(read_samples(self.written(tmp_path, data)))
        assert [type(sample) for sample in found] == [Sample] * 3
        assert found[2].where == f"{tmp_path / 'train.jsonl'}:3"

    def test_errors_stand_in_the_place_of_their_lines(self, tmp_path: Path) -> None:
        data = b"{" + GOOD + b"}\n\n{oops\n{" + GOOD + b"}\n\n"
        found = list(read_samples(self.written(tmp_path, data)))
        assert [type(item).__name__ for item in found] == [
            "Sample",
            "RecordError",
            "RecordError",
            "Sample",
            "RecordError",
        ]
        assert [item.line for item in found] == [1, 2, 3, 4, 5]

    def test_an_overlong_line_is_refused_and_the_next_one_read(self, tmp_path: Path) -> None:
        long = b'{"query": "' + b"x" * (2 * records.MAX_LINE_BYTES) + b'", "positive": "b"}'
        data = long + b"\n{" + GOOD + b"}\n" + long
        found = list(read_samples(self.written(tmp_path, data)))
        assert [type(item).__name__ for item in found] == ["RecordError", "Sample", "RecordError"]
        assert [item.line for item in found] == [1, 2, 3]

    def test_offsets_point_at_the_lines(self, tmp_path: Path) -> None:
        data = b"one\n\ntwo\r\n" + b"x" * (records.MAX_LINE_BYTES + 5) + b"\nthree"
        path = self.written(tmp_path, data)
        for offset, _, raw in records.read_lines(path):
            assert data[offset : offset + len(raw)] == raw

    def test_an_empty_file_has_no_lines(self, tmp_path: Path) -> None:
        assert list(read_samples(self.written(tmp_path, b""))) == []
