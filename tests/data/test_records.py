"""`parse_line`: the whole contract of data/README.md, and no line that breaks it gets through."""

import ast
import json
import pickle
import random
import sys
import time
from pathlib import Path

import pytest

from jina.data import records
from jina.data.records import FIELDS, Item, RecordError, Sample, parse_line, read_samples


def parsed(row: object) -> Sample:
    """Parse a row given as an object or as the line itself."""
    raw = row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()
    return parse_line(raw, file="train.jsonl", line=7)


def problems_of(row: object) -> list[str]:
    with pytest.raises(RecordError) as refusal:
        parsed(row)
    return refusal.value.problems


def pair(**fields: object) -> dict[str, object]:
    """Return the smallest good row, with some fields replaced or added."""
    return {"query": "a cat", "positive": "a small cat", **fields}


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


GOOD = b'"query": "a", "positive": "b"'

# Each line, the field its problem names, and what the message has to say.
HOSTILE_LINES = [
    (b"", "line", "is blank"),
    (b"\n", "line", "is blank"),
    (b"\r\n", "line", "is blank"),
    (b"  \t ", "line", "is blank"),
    (b"\xef\xbb\xbf{" + GOOD + b"}", "line", "byte order mark"),
    (b"\xef\xbb\xbf", "line", "byte order mark"),
    ("{}".encode("utf-16"), "line", "byte order mark"),
    (b"\xfe\xff\0{\0}", "line", "byte order mark"),
    (b"\0{\0}\0", "line", "is not JSON"),
    (b'{"query": "\xff"}', "line", "is not UTF-8"),
    (b'{"query": "caf\xe9", "positive": "b"}', "line", "is not UTF-8"),
    (b'{"query": "\xc3"}', "line", "is not UTF-8"),
    (b'{"query": "\xed\xa0\x80"}', "line", "is not UTF-8"),
    (b'{"query": "\xf5\x80\x80\x80"}', "line", "is not UTF-8"),
    (b"\x80\x04\x95", "line", "is not UTF-8"),
    (b"\x1f\x8b\x08\0", "line", "is not UTF-8"),
    (b"query,positive", "line", "is not JSON"),
    (b"a cat\ta small cat", "line", "is not JSON"),
    (b"{", "line", "is not JSON"),
    (b"{" + GOOD, "line", "is not JSON"),
    (b"{" + GOOD + b",}", "line", "is not JSON"),
    (b"{" + GOOD + b"} {" + GOOD + b"}", "line", "is not JSON"),
    (b"{" + GOOD + b"} // note", "line", "is not JSON"),
    (b"{'query': 'a', 'positive': 'b'}", "line", "is not JSON"),
    (b'{query: "a"}', "line", "is not JSON"),
    (b'{"query": "a\tb", "positive": "b"}', "line", "is not JSON"),
    (b'{"query": "a\0b", "positive": "b"}', "line", "is not JSON"),
    (b'{"query": "\\x41"}', "line", "is not JSON"),
    (b'{"query": "\\u12"}', "line", "is not JSON"),
    (b'{"query": True}', "line", "is not JSON"),
    (b'{"score": 01}', "line", "is not JSON"),
    (b'{"score": .5}', "line", "is not JSON"),
    (b'{"score": 0x10}', "line", "is not JSON"),
    (b"{" + GOOD + b', "score": NaN}', "line", "is not finite; got 'NaN'"),
    (b"{" + GOOD + b', "score": Infinity}', "line", "is not finite"),
    (b"{" + GOOD + b', "score": -Infinity}', "line", "is not finite"),
    (b"{" + GOOD + b', "score": 1e400}', "line", "is not finite; got '1e400'"),
    (b"{" + GOOD + b', "metadata": {"a": [NaN]}}', "line", "is not finite"),
    (b"{" + GOOD + b', "id": ' + b"9" * 5000 + b"}", "line", "is not finite"),
    (b"{" + GOOD + b', "metadata": {"a": -' + b"9" * 400 + b"}}", "line", "is not finite"),
    (b'{"query": "a", ' + GOOD + b"}", "query", "stands 2 times"),
    (b"{" + GOOD + b', "id": "a", "id": "a"}', "id", "stands 2 times"),
    (b"{" + GOOD + b', "metadata": {"a": 1, "a": 2, "a": 3}}', "a", "stands 3 times"),
    (b'{"\\u0071uery": "a", ' + GOOD + b"}", "query", "stands 2 times"),
    (b'{"query": "\\ud800", "positive": "b"}', "query", "half a surrogate pair"),
    (b'{"query": "a", "positive": ["b", "\\uDFFF"]}', "positive", "half a surrogate pair"),
    (b"{" + GOOD + b', "metadata": {"a": "\\udc00\\ud800"}}', "metadata", "half a surrogate"),
    (b"{" + GOOD + b', "id": "\\ud800x"}', "id", "half a surrogate pair"),
    (b"[" * 100_000, "line", "nested too deeply"),
    (b'{"a":' * 100_000, "line", "nested too deeply"),
    (b"{" + GOOD + b', "metadata": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "line", "nested"),
    (b" " * (records.MAX_LINE_BYTES + 1), "line", "is longer than"),
    (b"null", "line", "is not a JSON object"),
    (b"true", "line", "is not a JSON object"),
    (b"3", "line", "is not a JSON object"),
    (b'"a cat"', "line", "is not a JSON object"),
    (b'["a cat", "a small cat"]', "line", "is not a JSON object"),
    (b"[{" + GOOD + b"}]", "line", "is not a JSON object"),
    (b'{"id": "a", "positive_image": "b"}', "query", "is missing"),
    (b'{"positive": "b"}', "query", "is missing"),
    (b'{"query": "a"}', "positive", "is missing"),
    (b'{"query": "a", "negative": "b"}', "positive", "is missing"),
    (b'{"query": "a", "positive": null}', "positive", "is missing"),
    (b'{"query": null, "query_image": null, "positive": "b"}', "query", "is missing"),
    (b'{"query": ["a"], "positive": "b"}', "query", "is a list"),
    (b'{"query_image": ["a"], "positive": "b"}', "query_image", "is a list"),
    (b'{"query": "", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "  \\t\\n", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u0000", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u200b\\ufeff", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u00a0\\u3000", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u202e\\u2028", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "", "query_image": "a", "positive": "b"}', "query", "has no visible"),
    (b'{"query_image": "", "positive": "b"}', "query_image", "has no visible character"),
    (b'{"query": 3, "positive": "b"}', "query", "is not a string"),
    (b'{"query": 3.5, "positive": "b"}', "query", "is not a string"),
    (b'{"query": true, "positive": "b"}', "query", "is not a string"),
    (b'{"query": {"text": "a"}, "positive": "b"}', "query", "is not a string"),
    (b'{"query_image": 0, "positive": "b"}', "query_image", "is not a string"),
    (b'{"query": "a", "positive": 1}', "positive", "is not a string"),
    (b'{"query": "a", "positive": ["b", 1]}', "positive[1]", "is not a string"),
    (b'{"query": "a", "positive": [["b"]]}', "positive[0]", "is not a string"),
    (b'{"query": "a", "positive": ["b", ""]}', "positive[1]", "has no visible character"),
    (b'{"query": "a", "positive": ["b", null]}', "positive[1]", "neither text nor image"),
    (b'{"query": "a", "positive": []}', "positive", "is an empty list"),
    (b'{"query": "a", "positive_image": []}', "positive", "is an empty list"),
    (b'{"query": "a", "positive": [], "positive_image": []}', "positive", "is an empty list"),
    (b'{"query": "a", "positive": ["b"], "positive_image": "x"}', "positive", "mixes a list"),
    (b'{"query": "a", "positive": "b", "positive_image": ["x"]}', "positive", "mixes a list"),
    (b'{"query": "a", "positive": ["b"], "positive_image": []}', "positive", "more texts or more"),
    (b"{" + GOOD + b', "negative": ["a"], "negative_image": ["x", "y"]}', "negative", "more texts"),
    (
        b"{" + GOOD + b', "negative": [null], "negative_image": [null]}',
        "negative[0]",
        "neither text nor image",
    ),
    (b"{" + GOOD + b', "negative": ""}', "negative", "has no visible character"),
    (b"{" + GOOD + b', "negative_image": ["a", 5]}', "negative_image[1]", "is not a string"),
    (b"{" + GOOD + b', "negative": {}}', "negative", "is not a string"),
    (b"{" + GOOD + b', "task": "Retrieval"}', "task", "is not a task"),
    (b"{" + GOOD + b', "task": ""}', "task", "is not a task"),
    (b"{" + GOOD + b', "task": ["code"]}', "task", "is not a task"),
    (b"{" + GOOD + b', "task": 1}', "task", "is not a task"),
    (b"{" + GOOD + b', "score": "0.5"}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": -0.1}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": 5.01}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": 100}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": true}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": [1]}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "source": 3}', "source", "is not a string"),
    (b"{" + GOOD + b', "source": " "}', "source", "has no visible character"),
    (b"{" + GOOD + b', "id": 1.5}', "id", "neither a string nor a whole number"),
    (b"{" + GOOD + b', "id": true}', "id", "neither a string nor a whole number"),
    (b"{" + GOOD + b', "id": ["a"]}', "id", "neither a string nor a whole number"),
    (b"{" + GOOD + b', "metadata": "de"}', "metadata", "is not an object"),
    (b"{" + GOOD + b', "metadata": []}', "metadata", "is not an object"),
    (b"{" + GOOD + b', "positve": "b"}', "positve", 'did you mean "positive"?'),
    (b"{" + GOOD + b', "Query": "b"}', "Query", 'did you mean "query"?'),
    (b"{" + GOOD + b', "image": "b"}', "image", "is not a known field"),
    (b"{" + GOOD + b', "queryimage": "b"}', "queryimage", 'did you mean "query_image"?'),
    (b"{" + GOOD + b', "negatives": ["b"]}', "negatives", 'did you mean "negative"?'),
    (b"{" + GOOD + b', "scores": 1}', "scores", 'did you mean "score"?'),
    (b"{" + GOOD + b', "labels": 1}', "labels", "known fields: query, query_image"),
    (b"{" + GOOD + b', "": 1}', "''", "is not a known field"),
    (b"{" + GOOD + b', "a b": 1}', "'a b'", "is not a known field"),
    (b"{" + GOOD + b', "a\\nb": null}', "'a\\nb'", "is not a known field"),
]


class TestHostileLines:
    def test_there_are_enough_of_them(self) -> None:
        assert len({raw for raw, *_ in HOSTILE_LINES}) >= 80

    @pytest.mark.parametrize(
        ("raw", "field", "what"), HOSTILE_LINES, ids=lambda value: ascii(value)[:50]
    )
    def test_a_hostile_line_is_refused_by_file_line_and_field(
        self, raw: bytes, field: str, what: str
    ) -> None:
        (problem,) = problems_of(raw)
        assert problem.startswith(f"train.jsonl:7: {field}: ")
        assert what in problem
        assert problem.count("; got ") == 1
        assert problem.isprintable()
        assert len(problem) < 400

    def test_all_problems_of_a_line_are_told_at_once(self) -> None:
        row = {"qury": 1, "positive": ["a", ""], "negative": 3, "task": "x", "score": 9, "id": []}
        fields = [problem.split(": ")[1] for problem in problems_of(row)]
        assert fields == ["qury", "query", "positive[1]", "negative", "task", "score", "id"]

    def test_all_breaches_of_json_are_told_at_once(self) -> None:
        raw = b'{"query": "a", "query": NaN, "score": 1e999, "metadata": {"a": 1, "a": 1}}'
        assert len(problems_of(raw)) == 4

    def test_a_message_says_where_what_got_and_what_to_do(self) -> None:
        assert problems_of(pair(positive=["a", " \n"])) == [
            "train.jsonl:7: positive[1]: has no visible character; got ' \\n'; "
            "fill it or leave it out"
        ]

    @pytest.mark.parametrize("size", [10**3, 10**6])
    def test_long_values_are_shortened(self, size: int) -> None:
        rows = [
            pair(**{"x" * size: 1}),
            pair(query="\u200b" * size),
            pair(score="x" * size),
            pair(task=["x" * 50] * (size // 50)),
            b'{"query": "' + b"x" * size,
            b'{"metadata": {"' + b"x" * size + b'": 1, "' + b"x" * size + b'": 1}}',
            b"{" + GOOD + b', "id": ' + b"1" * size + b"}",
        ]
        start = time.perf_counter()
        assert max(len(problem) for row in rows for problem in problems_of(row)) < 500
        assert time.perf_counter() - start < 3

    def test_an_error_survives_pickling_and_being_raised_again_from_its_text(self) -> None:
        with pytest.raises(RecordError) as refusal:
            parsed({})
        error = pickle.loads(pickle.dumps(refusal.value))  # noqa: S301
        assert (error.problems, error.file, error.line) == (
            refusal.value.problems,
            "train.jsonl",
            7,
        )
        # So torch re-raises what happened in a loader worker.
        assert str(RecordError("one text")) == "one text"

    def test_controls_that_only_look_hostile_are_read(self) -> None:
        for row in (
            b'{"query": "\\ud83d\\ude00", "positive": "\\\\ud800"}',
            b'  {"query": "NaN", "positive": "Infinity"}  \r\n',
            b'{"query": "a", "positive": "b", "metadata": {"query": "a", "b": {"query": 1}}}',
            b'{"query": "a", "positive": "b", "id": ' + b"9" * 300 + b"}",
            b'{"query": "a", "positive": "b", "metadata": {"a": [[[[[[]]]]]]}}',
            json.dumps(pair(query="x" * 10**6)).encode(),
        ):
            assert isinstance(parse_line(row, file="f", line=1), Sample)


SEEDS = [
    pair(),
    {"query_image": "images/a.webp", "positive": "caf\u00e9 \U0001f408", "source": "emoji"},
    pair(negative=["x", "y"], negative_image=["1.png", None], id=3, task="code"),
    pair(positive=["a", None], positive_image=[None, "b"], score=0.5, metadata={"a": [1, {}]}),
]


def mutated(line: bytearray, generator: random.Random) -> bytes:
    """Return a line with a few bytes, or a whole token, replaced, dropped or doubled."""
    tokens = [b"null", b"NaN", b"1e999", b'"\\ud800"', b"[", b"]", b"{", b"}", b'"', b",", b"[]"]
    tokens += [b"\xff", b"\xe2\x80\xa8", b'""', b"true", b"-1", b"\0", b'"query":', b"\\"]
    for _ in range(generator.choice([1, 1, 1, 2, 8])):
        start = generator.randrange(len(line) + 1)
        end = min(len(line), start + generator.choice([0, 0, 1, 1, 5, 20]))
        other = generator.randrange(len(line) + 1)
        line[start:end] = generator.choice(
            [generator.choice(tokens), generator.randbytes(2), line[other : other + 9], b""]
        )
    return bytes(line)


class TestFuzzing:
    def test_ten_thousand_mutated_lines_give_a_sample_or_an_error_with_its_place(self) -> None:
        generator = random.Random(0)  # noqa: S311
        seeds = [json.dumps(seed, ensure_ascii=False).encode() for seed in SEEDS]
        samples = errors = 0
        for number in range(10_000):
            raw = mutated(bytearray(generator.choice(seeds)), generator)
            try:
                sample = parse_line(raw, file="fuzz.jsonl", line=number)
            except RecordError as error:
                errors += 1
                assert error.problems
                assert (error.file, error.line) == ("fuzz.jsonl", number)
                for problem in error.problems:
                    assert problem.startswith(f"fuzz.jsonl:{number}: ")
                    assert "; got " in problem
            else:
                samples += 1
                self.check(sample)
        assert samples > 500
        assert errors > 5000

    def check(self, sample: Sample) -> None:
        """Check what every later part of the program relies on."""
        assert sample.positives
        for item in (sample.query, *sample.positives, *sample.negatives):
            assert item.text is not None or item.image is not None
            for value in (item.text, item.image):
                if value is not None:
                    assert value.encode("utf-8").strip()
        assert sample.task in (None, *records.TASKS)
        assert sample.score is None or 0 <= sample.score <= 5


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
