"""csv and tsv: cells as spreadsheets write them; every row that is not sound is told by line."""

import pytest

TABLE = "query_image,positive\nimages/red.png,red\nimages/blue.png,blue\n"


class TestGood:
    def test_columns_named_as_our_fields_need_no_map(self, workshop):
        assert workshop.rows("csv", workshop.write("t.csv", TABLE)) == [
            {"query_image": "images/red.png", "positive": "red"},
            {"query_image": "images/blue.png", "positive": "blue"},
        ]

    def test_quotes_hold_commas_quotes_and_line_breaks(self, workshop):
        table = 'query,positive\n"a, b","say ""hi""\nand bye"\n'
        rows = workshop.rows("csv", workshop.write("t.csv", table))
        assert rows == [{"query": "a, b", "positive": 'say "hi"\nand bye'}]

    def test_tabs_part_the_cells_of_a_tsv(self, workshop):
        rows = workshop.rows("tsv", workshop.write("t.tsv", "query\tpositive\na, b\tc\n"))
        assert rows == [{"query": "a, b", "positive": "c"}]

    def test_windows_line_endings_are_no_part_of_a_cell(self, workshop):
        rows = workshop.rows("csv", workshop.write("t.csv", TABLE.replace("\n", "\r\n")))
        assert [row["positive"] for row in rows] == ["red", "blue"]

    def test_a_last_line_without_an_end_counts(self, workshop):
        assert len(workshop.rows("csv", workshop.write("t.csv", TABLE.rstrip()))) == 2

    def test_a_byte_order_mark_is_left_out_and_said(self, workshop):
        source = workshop.write("t.csv", b"\xef\xbb\xbf" + TABLE.encode())
        summary = workshop.convert("csv", source)
        assert any("byte order mark" in line for line in summary.lines())
        assert b"\xef\xbb\xbf" not in workshop.output.read_bytes()

    def test_without_a_byte_order_mark_nothing_is_said_of_it(self, workshop):
        summary = workshop.convert("csv", workshop.write("t.csv", TABLE))
        assert not any("byte order mark" in line for line in summary.lines())

    def test_an_empty_cell_is_no_value(self, workshop):
        table = "query,positive,negative\na,b,\nc,d,e\n"
        rows = workshop.rows("csv", workshop.write("t.csv", table))
        assert rows == [
            {"query": "a", "positive": "b"},
            {"query": "c", "positive": "d", "negative": "e"},
        ]

    def test_a_line_separator_of_unicode_ends_no_row(self, workshop):
        rows = workshop.rows("csv", workshop.write("t.csv", "query,positive\na\u2028b,c\x85d\n"))
        assert rows == [{"query": "a\u2028b", "positive": "c\x85d"}]

    def test_a_score_becomes_a_number(self, workshop):
        table = "query,positive,score\na,b,0.5\n"
        assert workshop.rows("csv", workshop.write("t.csv", table))[0]["score"] == 0.5


class TestBad:
    def test_every_bad_row_is_told_by_the_line_it_begins_on(self, workshop):
        table = 'query,positive\na,b\n"c\nd",e,f\n\ng\nh,"i" j\nk,l\nm,\n'
        source = workshop.write("t.csv", table)
        found = workshop.problems("csv", source)
        assert [problem.split(": ")[0] for problem in found] == [
            f"t.csv:{line}" for line in (3, 5, 6, 7, 9)
        ]
        ragged, blank, short, quoting, missing = found
        assert "has 3 cells where the header has 2; got ['c\\nd', 'e', 'f'];" in ragged
        assert "is blank" in blank
        assert "has 1 cells" in short
        assert "cannot be read as a row" in quoting
        assert "positive: is missing" in missing

    def test_a_quote_that_is_never_closed_is_told_by_where_it_opens(self, workshop):
        found = workshop.problems("csv", workshop.write("t.csv", TABLE + 'images/red.png,"red\n'))
        assert found[0].startswith("t.csv:4: line: cannot be read as a row (unexpected end of")

    def test_a_cell_beyond_the_limit_of_the_reader_is_refused(self, workshop):
        table = f"query,positive\na,{'b' * 200_000}\nc,d\n"
        (found,) = workshop.problems("csv", workshop.write("t.csv", table))
        assert "field larger than field limit" in found

    def test_bytes_that_are_not_utf8_are_told_by_line(self, workshop):
        source = workshop.write("t.csv", b"query,positive\na,b\nc,caf\xe9\nd,e\xff\n")
        first, second = workshop.problems("csv", source)
        assert first.startswith("t.csv:3: line: is not UTF-8")
        assert second.startswith("t.csv:4: line: is not UTF-8")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "t.csv:1: header: is missing"),
            (b"\n", "t.csv:1: header: is missing"),
            (b"query,query\na,b\n", "names 2 columns 'query'"),
            (b"query,,positive\n", "names 1 columns ''"),
            (b'query,"positive\n', "t.csv:1: line: cannot be read as a row"),
            ("query,positive\na,b\n".encode("utf-16"), "t.csv:1: header: is not UTF-8"),
            (b"query,positive\n", "has no rows"),
        ],
    )
    def test_a_useless_table_is_refused(self, workshop, content, said):
        found = workshop.problems("csv", workshop.write("t.csv", content))
        assert said in found[0]

    def test_a_line_over_the_limit_is_refused(self, workshop, monkeypatch):
        monkeypatch.setattr("jina.data.conversion.tables.MAX_LINE_BYTES", 30)
        found = workshop.problems("csv", workshop.write("t.csv", "query,positive\n" + "a" * 31))
        assert found[0].startswith("t.csv:2: line: is longer than 30 bytes")

    def test_what_the_row_check_refuses_is_told_with_file_and_line(self, workshop):
        table = "query,positive,score,task\na,b,7,retrieval\nc,d,high,sorting\n,\u200b,,\n"
        assert workshop.problems("csv", workshop.write("t.csv", table)) == [
            "t.csv:2: score: is not in [0, 5]; got 7.0; rescale it or leave it out",
            "t.csv:3: task: is not a task; got 'sorting'; "
            "choose one of retrieval, text-matching, code",
            "t.csv:3: score: is not in [0, 5]; got 'high'; rescale it or leave it out",
            't.csv:4: query: is missing; got [\'positive\']; give "query", "query_image" or both',
            "t.csv:4: positive: has no visible character; got '\\u200b'; fill it or leave it out",
        ]
