"""The page in a real browser: its parts are painted, by day, by night and on a phone.

Needs Chromium (Debian's package `chromium`), and is skipped where there is none.
"""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from jina.retrieval.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
DESKTOP, PHONE = 1200, 390
TALL = 8000
DAY, NIGHT = (0xFB, 0xFB, 0xFA), (0x14, 0x17, 0x1A)
BLUE, ORANGE, RIGHT, BOX = (0x1F, 0x6F, 0xEB), (0xD9, 0x48, 0x0F), (0x14, 0x80, 0x4A), (11, 95, 255)
# Asks the page, in a frame of a width, where its parts are; the answer is read from the DOM.
MEASURE = """<body style="margin:0"><iframe style="border:0;width:{width}px;height:{height}px"
srcdoc="{page}"></iframe><pre></pre><script>
document.querySelector("iframe").onload = event => {{
  const inner = event.target.contentDocument, box = one => one.getBoundingClientRect();
  const parts = [...inner.querySelectorAll("section, .heat, .found li.right")];
  document.querySelector("pre").textContent = JSON.stringify({{
    width: inner.documentElement.scrollWidth,
    outside: [...inner.querySelectorAll("body *")].filter(
      one => box(one).right > {width} + 0.5 || box(one).left < -0.5).map(one => one.outerHTML),
    parts: parts.map(one => [one.id || one.className, box(one).x, box(one).y,
                             box(one).right, box(one).bottom]),
    broken: [...inner.images].filter(one => !one.naturalWidth).length,
  }});
}};</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; apt install chromium"),
]


@pytest.fixture
def browse(tmp_path):
    """Return a function that opens a file in a headless browser of its own."""

    def run(file, *flags):
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, file.as_uri()], capture_output=True, text=True, timeout=100, check=True
        )
        return done.stdout

    return run


@pytest.fixture
def page(finished, tmp_path):
    return write_report(finished.folder, output=tmp_path / "report.html")


@pytest.fixture
def shoot(browse, tmp_path):
    """Return a function that gives the pixels of a page."""

    def run(file, *flags):
        target = tmp_path / "shot.png"
        size = f"--window-size={DESKTOP},{TALL}"
        browse(file, size, f"--screenshot={target}", *flags)
        return np.asarray(Image.open(target).convert("RGB")).astype(int)

    return run


@pytest.fixture
def measure(browse, page, tmp_path):
    """Return a function that says how a page of some width is laid out."""

    def run(width):
        text = re.sub(r'<meta http-equiv="Content-Security[^>]*>', "", page.read_text("utf-8"))
        frame = tmp_path / "frame.html"
        frame.write_text(MEASURE.format(width=width, height=TALL, page=html.escape(text)))
        dom = browse(frame, f"--window-size={DESKTOP},{TALL}", "--dump-dom")
        return json.loads(html.unescape(re.search(r"<pre>(\{.*\})</pre>", dom, re.S)[1]))

    return run


def part_of(pixels, box):
    left, top, right, bottom = (round(value) for value in box)
    return pixels[top:bottom, left:right]


def count(pixels, colour):
    """How many pixels have nearly a colour."""
    return int((np.abs(pixels - colour).max(axis=-1) <= 12).sum())


def test_each_part_is_painted(page, shoot, measure):
    layout, pixels = measure(DESKTOP), shoot(page)
    assert layout["broken"] == 0
    parts = {name: part_of(pixels, box) for name, *box in layout["parts"]}
    assert {"results", "curves", "similarities", "gallery", "run", "heat", "right"} <= set(parts)
    for name in ("results", "run"):
        assert len(np.unique(parts[name].reshape(-1, 3), axis=0)) > 20, name
    for name in ("curves", "similarities"):
        assert count(parts[name], BLUE) > 500, name
        assert count(parts[name], ORANGE) > 500, name
    assert count(parts["results"], BLUE) < 500  # the control: no chart there
    assert count(parts["right"], RIGHT) > 200
    assert count(parts["heat"], BOX) > 100
    assert count(parts["curves"], BOX) == 0
    assert tuple(pixels[5, 5]) == DAY


def test_at_night_the_page_is_dark(page, shoot):
    night = shoot(page, "--blink-settings=preferredColorScheme=0")
    assert tuple(night[5, 5]) == NIGHT
    assert night.mean() < 90 < shoot(page).mean()


def test_on_a_phone_nothing_stands_beside_the_screen(measure):
    layout = measure(PHONE)
    assert layout["width"] == PHONE
    assert layout["outside"] == []
    assert measure(120)["outside"]  # the control: on a watch something does
