"""A guess at the language of a row, for a report that wants to say what a file is made of.

A row that says it, as `metadata.lang`, is believed. Of others the script of the text is told, which
narrows the language down and costs next to nothing; the language itself is never guessed.
"""

from bisect import bisect_right
from collections import Counter

from jina.data.records import Sample

LETTERS_LOOKED_AT = 200
MAX_NAME_LENGTH = 16

# Where blocks of Unicode begin that belong to one script; "" for rare scripts and for all others.
_BLOCKS = (
    (0x0000, "Latin"),
    (0x0370, "Greek"),
    (0x0400, "Cyrillic"),
    (0x0530, "Armenian"),
    (0x0590, "Hebrew"),
    (0x0600, "Arabic"),
    (0x0700, ""),
    (0x0750, "Arabic"),
    (0x0780, ""),
    (0x0900, "Devanagari"),
    (0x0980, "Bengali"),
    (0x0A00, ""),
    (0x0B80, "Tamil"),
    (0x0C00, "Telugu"),
    (0x0C80, ""),
    (0x0E00, "Thai"),
    (0x0E80, ""),
    (0x10A0, "Georgian"),
    (0x1100, "Hangul"),
    (0x1200, ""),
    (0x1E00, "Latin"),
    (0x1F00, "Greek"),
    (0x2000, ""),
    (0x3040, "Japanese"),
    (0x3100, ""),
    (0x3400, "Han"),
    (0xA000, ""),
    (0xAC00, "Hangul"),
    (0xD7B0, ""),
    (0xF900, "Han"),
    (0xFB00, ""),
    (0xFF66, "Japanese"),
    (0xFFA0, ""),
    (0x20000, "Han"),
    (0x323B0, ""),
)
_STARTS = [start for start, _ in _BLOCKS]


def language_hint(sample: Sample) -> str:
    """Return the language a row names, or the script most of its text is in, or "no text"."""
    lang = (sample.metadata or {}).get("lang")
    if isinstance(lang, str) and lang and lang.isprintable():
        return lang[:MAX_NAME_LENGTH].lower()  # tags of languages know no case (BCP 47)
    items = (sample.query, *sample.positives)
    return script_of("".join(item.text for item in items if item.text)[:LETTERS_LOOKED_AT])


def script_of(text: str) -> str:
    """Return the script most letters of a text are in, as "Latin script"."""
    if not text:
        return "no text"
    if text.isascii():
        return "Latin script" if any(map(str.isalpha, text)) else "no letters"
    codes = [ord(character) for character in text if character.isalpha()]
    counts = Counter(_BLOCKS[bisect_right(_STARTS, code) - 1][1] for code in codes)
    if counts["Japanese"]:
        # Kana tell a Japanese text even where most of its letters are Han.
        return "Japanese script"
    if not counts:
        return "no letters"
    return f"{counts.most_common(1)[0][0] or 'another'} script"
