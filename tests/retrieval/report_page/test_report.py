"""The page as text: what stands in it, what can't get into it, and what it says when rows go."""

import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from jina.__main__ import main as jina_command
from jina.retrieval.report import text_and_picture, write_report
from jina.retrieval.report_page.run_record import ReportError

ADDRESSES = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}


class Page(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def source(finished):
    return write_report(finished.folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the run that may be damaged."""
    return shutil.copytree(finished.folder, tmp_path / "run")


def test_nothing_of_a_row_or_setting_becomes_markup(finished, page):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "link", "form", "base", "video"}
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert finished.rows[0]["query"] in page.text  # as text, whole
    assert "</pre><script>bad()</script>" in page.text
    assert "<i>8 rows</i>" in page.text


def test_nothing_is_loaded_from_anywhere(source, page):
    found = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ADDRESSES
    ]
    assert len(found) > 20
    assert all(value.startswith(("data:image/webp;base64,", "data:image/png;base64,", "#"))
               for value in found)  # fmt: skip
    targets = re.findall(r"url\(([^)]{0,30})", source)
    assert targets
    assert all(target.startswith("data:image/") for target in targets)
    assert "@import" not in source


def test_the_policy_forbids_every_load_but_pictures_inside_the_page(page):
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules


def test_all_parts_are_there(page, finished):
    for words in (
        "Before and after", "ndcg@5", "single-64", "multi-16", "Loss of each dimension",
        "late interaction", "nDCG@5 of each dimension", "positives (8)", "negatives (56)",
        "Late interaction: which patch each token matched", "Hard negatives", "margin",
        "rows.jsonl:2: query",
    ):  # fmt: skip
        assert words in page.text
    assert str(finished.folder.parent) not in page.text  # paths of this machine


def test_figures_are_those_of_the_evaluations(page, finished):
    metrics = json.loads((finished.folder / "eval/after/metrics.json").read_text("utf-8"))
    for result in metrics["results"]:
        after = result["metrics"]["ndcg@10"]
        change = result["difference"]["ndcg@10"]
        assert f"{after['value']:.3f}" in page.text
        assert f"{change['value']:+.3f}" in page.text
        assert f"{change['low']:.3f} to {change['high']:.3f}" in page.text


def test_the_same_run_gives_the_same_page(finished, source, tmp_path):
    again = write_report(finished.folder, output=tmp_path / "new/page.html")
    assert again.read_text(encoding="utf-8") == source


def test_given_rows_are_not_opened_again(finished, source, tmp_path, copied):
    facts = json.loads((copied / "run/facts.json").read_text())
    (copied / "run/facts.json").write_text(json.dumps(facts | {"rows": {}}))
    output = write_report(copied, output=tmp_path / "page.html", dataset=finished.dataset)
    assert output.read_text("utf-8").count("<article") == source.count("<article")


def test_rows_that_have_gone_leave_a_page_without_gallery_that_says_so(copied, caplog):
    facts = json.loads((copied / "run/facts.json").read_text())
    facts["rows"]["files"] = ["/no/such/rows.jsonl"]
    (copied / "run/facts.json").write_text(json.dumps(facts))
    assert jina_command(["report", str(copied)]) == 0
    text = (copied / "run/report.html").read_text("utf-8")
    assert "The gallery is left out: /no/such/rows.jsonl" in text
    assert "<article" not in text
    assert "ndcg@5" in text
    assert "The gallery is left out" in caplog.text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run/facts.json", "[]x"),
        ("run/trainer_state.json", None),
        ("run/token_matches.json", '[{"text": 1}]'),
        ("eval/before/metrics.json", None),
        ("eval/after/metrics.json", '{"results": [{}]}'),
        ("eval/after/per_query.jsonl", "{}\n"),
        ("eval/after/run.retrieval.text-to-image.single-64.trec", "two words\n"),
    ],
)
def test_a_damaged_run_is_named_and_nothing_is_written(copied, file, content, caplog):
    (copied / "run/report.html").unlink(missing_ok=True)
    (copied / file).unlink()
    if content is not None:
        (copied / file).write_text(content)
    assert jina_command(["report", str(copied)]) == 2
    assert file.rpartition("/metrics.json")[0] in caplog.text
    assert not (copied / "run/report.html").exists()


def test_a_page_that_cannot_be_written_is_said(copied):
    with pytest.raises(ReportError, match="can't be written; got .*; name another file"):
        write_report(copied, output=copied / "run/facts.json/page.html")


def test_all_that_is_missing_is_said_at_once(tmp_path):
    with pytest.raises(ReportError) as caught:
        write_report(tmp_path)
    for name in ("config.yaml", "facts.json", "trainer_state.json", "eval/before", "eval/after"):
        assert name in str(caught.value)


def test_heat_maps_are_of_texts_and_their_right_pictures(finished, source):
    assert 0 < len(finished.matches) <= 4
    assert source.count('class="heat"') == len(finished.matches)


def test_two_sides_of_one_kind_have_no_heat_map():
    group = SimpleNamespace(direction="text→text")
    assert text_and_picture(SimpleNamespace(group=group)) == ([], "query")
