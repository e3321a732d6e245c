"""The figures of `validation_figures`, written for somebody who looks at a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from jina.data.validation import MAX_PROBLEMS_SHOWN

MAX_NAMES_SHOWN, MAX_NAME_LENGTH = 12, 60
# Of more pairs of files only those are shown that have something in common.
MAX_PAIRS_SHOWN = 6
NAME_WIDTH, LINE_WIDTH, BAR_WIDTH = 28, 100, 40
NO_BREAK = "\xa0"


def render(figures: Mapping[str, Any], problems: Sequence[str]) -> str:
    """Write a report; problems and verdict come last, where a terminal ends.

    Args:
        figures: From `validation_figures`, with or without a "step" from `step_estimate`.
        problems: All problems as messages, of which the first are shown.
    """
    blocks = {
        "Rows": [*_rows(figures)],
        _text_title(figures["texts"]): [*_texts(figures["texts"])],
        _image_title(figures): [*_images(figures["images"])],
        "Same contents (rows that share one are never each other's negatives)": [
            *_same_contents(figures)
        ],
    }
    if "step" in figures:
        blocks["One training step, estimated"] = [*_step(figures["step"])]
    if problems:
        hidden = len(problems) - MAX_PROBLEMS_SHOWN
        more = [f"… and {hidden:,} more"] if hidden > 0 else []
        blocks["Problems"] = [*problems[:MAX_PROBLEMS_SHOWN], *more]
    sections = ["\n".join([title, *block]) for title, block in blocks.items()]
    return "\n\n".join([*sections, verdict(figures)])


def verdict(figures: Mapping[str, Any]) -> str:
    """Say in one line whether the files can be trained on."""
    rows, refused = figures["rows"], figures["refused"]
    if not figures["problems"]:
        return f"No problem in {rows:,} row{'s' * (rows != 1)}."
    count = len(figures["problems"])
    what = f"{count:,} problem" + "s" * (count > 1)
    if not refused:  # the file as a whole has it
        return f"{what}. Correct {'them' if count > 1 else 'it'}."
    return f"{what}: {refused:,} of {rows:,} rows can't be used. Correct them, or leave them out."


def _rows(figures: Mapping[str, Any]) -> Iterator[str]:
    """Describe files and rows."""
    for file in figures["files"]:
        refused = file["rows"] - file["accepted"]
        bad = f", {refused:,} refused" if refused else ""
        yield from _entry(file["file"], f"{file['rows']:,} rows{bad}")
    for name, key in (("shape", "shapes"), ("task", "tasks"), ("source", "sources")):
        yield from _entry(name, _counts(figures[key]))
    yield from _entry("language (a hint)", _counts(figures["languages"]))


def _text_title(texts: Mapping[str, Any]) -> str:
    if texts["unit"] == "bytes":
        return "Texts, in bytes of UTF-8 (a tokenizer comes with --config)"
    return "Texts, in tokens with their prompt"


def _texts(texts: Mapping[str, Any]) -> Iterator[str]:
    """Describe the lengths of texts."""
    yield from _histogram(texts)
    if texts["unit"] == "bytes":
        perhaps = f"{texts['perhaps_cut']:,} texts have more bytes and may be cut"
        yield from _entry("limit", f"{texts['limit']:,} tokens; {perhaps}")
        return
    if texts["measured"] < texts["texts"]:
        measured = f"{texts['measured']:,} of {texts['texts']:,} texts, evenly spaced"
        yield from _entry("measured", f"{measured}, and all that may be over the limit")
    yield from _entry("limit", f"{texts['limit']:,} tokens; {texts['cut']:,} texts are cut")


def _image_title(figures: Mapping[str, Any]) -> str:
    how = "decoded" if figures["checked"] == "pixels" else "headers read; --deep decodes them"
    return f"Images, in vision tokens ({how})"


def _images(images: Mapping[str, Any]) -> Iterator[str]:
    """Describe the sizes of images."""
    yield from _histogram(images)
    yield from _entry("distinct images", f"{images['distinct']:,}")
    resized = ""
    if "shrunk" in images:
        resized = f"; {images['shrunk']:,} are shrunk, {images['enlarged']:,} enlarged"
    yield from _entry("limit", f"{images['limit']:,} tokens{resized}")


def _histogram(lengths: Mapping[str, Any]) -> Iterator[str]:
    """Draw a bar for each doubling of the length, then say where most of it is."""
    bars = lengths["histogram"]
    if not bars:
        yield from _entry("none", "")
        return
    longest = max(bar["count"] for bar in bars)
    for bar in bars:
        span = f"{bar['from']:,} to {bar['to']:,}" if bar["to"] > bar["from"] else f"{bar['to']}"
        blocks = "█" * round(BAR_WIDTH * bar["count"] / longest) or "▏" * bool(bar["count"])
        yield f"  {span:>{NAME_WIDTH - 2}}  {blocks} {bar['count']:,}"
    yield from _entry(
        "range",
        f"{lengths['minimum']:,} to {lengths['maximum']:,}, median {lengths['median']:,g}, "
        f"95 % up to {lengths['percentile_95']:,.0f}",
    )


def _same_contents(figures: Mapping[str, Any]) -> Iterator[str]:
    """Describe what rows, and groups of files, have in common."""
    repeated = figures["duplicates"]
    count = repeated["rows"] - repeated["contents"]
    yield from _entry("repeated rows", _with_example(f"{count:,}", repeated))
    for name, key in (
        ("shared queries", "shared_queries"),
        ("shared positives", "shared_positives"),
        ("right answers as negatives", "wrong_negatives"),
        ("queries as negatives", "query_negatives"),
    ):
        shared = figures[key]
        counted = f"{shared['contents']:,} in {shared['rows']:,} rows" if shared["rows"] else "0"
        yield from _entry(name, _with_example(counted, shared))
    overlaps = figures["overlaps"]
    for overlap in overlaps:
        if len(overlaps) > MAX_PAIRS_SHOWN and not overlap["rows"]:
            continue
        first, second = overlap["between"]
        common = f"{overlap['images']:,} images and {overlap['texts']:,} texts in common"
        touched = f", in {overlap['rows']:,} rows of {second}" if overlap["rows"] else ""
        yield from _entry(f"{first} and {second}", _with_example(common + touched, overlap))


def _with_example(text: str, shared: Mapping[str, Any]) -> str:
    """Add the place of the first of several."""
    places = dict.fromkeys(shared["examples"][0]) if shared["examples"] else ()
    return f"{text}, such as {' and '.join(places)}" if places else text


def _step(step: Mapping[str, Any]) -> Iterator[str]:
    """Describe what a step would take."""
    hard = step["hard_negatives_per_query"]
    beside = f" and {hard:,.3g} hard ones" if hard else ""
    yield from _entry("batch", f"{step['batch_size']:,} rows, {step['tokens']:,} tokens")
    yield from _entry(
        "negatives per query", f"{step['in_batch_negatives_per_query']:,.4g} in the batch{beside}"
    )
    memory = step["memory_gib"]
    unit, factor = ("GiB", 1) if sum(memory.values()) >= 1 else ("MiB", 1024)
    parts = " + ".join(f"{value * factor:,.1f} {name}" for name, value in memory.items())
    yield from _entry("memory", f"{sum(memory.values()) * factor:,.1f} {unit} = {parts}")
    yield from _entry("assumed", "; ".join(step["assumptions"]))


def _counts(counts: Mapping[str, int]) -> str:
    """List the largest counts."""
    largest = list(counts.items())[:MAX_NAMES_SHOWN]
    shown = [f"{count:,} {printable(name)}" for name, count in largest]
    hidden = len(counts) - len(shown)
    shown += [f"{hidden:,} more"] if hidden > 0 else []
    return ", ".join(entry.replace(" ", NO_BREAK) for entry in shown) or "none"


def printable(name: str) -> str:
    """Return a name from a file fit for a terminal: no control characters, not too long."""
    return (name if name.isprintable() else repr(name))[:MAX_NAME_LENGTH]


def _entry(name: str, value: str) -> list[str]:
    """Return a name and what belongs to it, on as many lines as that takes."""
    lines = wrap(
        value, LINE_WIDTH - NAME_WIDTH - 2, break_long_words=False, break_on_hyphens=False
    ) or [""]
    lines = [line.replace(NO_BREAK, " ") for line in lines]
    margin = " " * (NAME_WIDTH + 2)
    if len(name) >= NAME_WIDTH:
        return [f"  {name}", *(margin + line for line in lines)]
    return [f"  {name:<{NAME_WIDTH}}{lines[0]}", *(margin + line for line in lines[1:])]
