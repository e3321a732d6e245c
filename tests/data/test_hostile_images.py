"""`load_image` against bombs and hostile paths: no memory, no file outside the root, no socket."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jina.data.image_loading import ImageError, image_size, load_image
from tests.data.hostile_images import HOSTILE
from tests.data.image_files import PICTURE, assert_same_pixels, empty_png, saved, written

# Pillow warns of damaged metadata before it, or we, refuse the file.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
ROOT = Path(__file__).resolve().parents[2]


MEASURE = """
import json, pathlib, sys
from PIL import Image
from jina.data.image_loading import ImageError, load_image

def peak():
    # Not getrusage: its peak is inherited from the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

kind, *paths = sys.argv[1:]
before, refusals = peak(), []
for path in paths:
    try:
        load_image(path) if kind == "ours" else Image.open(path).convert("RGB")
    except ImageError as error:
        refusals.append(str(error))
json.dump({"growth": peak() - before, "refusals": refusals}, sys.stdout)
"""


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bombs")
    huge = [case for case in HOSTILE if case.kind.startswith("huge") or "bomb" in case.kind]
    files = {case.name.replace(" ", "-"): case.data for case in huge}
    files |= {"89-megapixels": empty_png(9440, 9440), "400-megapixels": empty_png(20000, 20000)}
    assert len(files["89-megapixels"]) < 12_000
    return [written(folder, data, name) for name, data in files.items()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
class TestBombs:
    def measured(self, kind: str, paths: list[Path]) -> dict[str, object]:
        command = [sys.executable, "-W", "error", "-c", MEASURE, kind, *map(str, paths)]
        path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
        environment = {**os.environ, "PYTHONPATH": path}
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(child.stdout)

    def test_every_bomb_is_refused_before_it_takes_memory(self, bombs: list[Path]) -> None:
        result = self.measured("ours", bombs)
        assert len(result["refusals"]) == len(bombs)
        assert result["growth"] < 64

    def test_control_a_bomb_that_is_decoded_takes_memory(self, bombs: list[Path]) -> None:
        fuse = next(path for path in bombs if path.name == "89-megapixels")
        assert self.measured("pillow", [fuse])["growth"] > 64


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Path]]:
    """A folder of images beside secrets, and the list of all files that are opened."""
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    written(root, saved(PICTURE, "PNG"), "good.png")
    written(root / "deep", saved(PICTURE, "PNG"), "good.png")
    written(tmp_path, saved(PICTURE, "PNG"), "secret.png")
    (tmp_path / "images-of-others").mkdir()
    written(tmp_path / "images-of-others", saved(PICTURE, "PNG"), "secret.png")
    (root / "way-out").symlink_to(tmp_path)
    (root / "secret-link.png").symlink_to(tmp_path / "secret.png")
    (root / "twice.png").symlink_to(root / "secret-link.png")
    (root / "broken-link.png").symlink_to(root / "nothing.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "zero-link.png").symlink_to("/dev/zero")
    (root / "inner-link.png").symlink_to(root / "deep" / "good.png")
    os.mkfifo(root / "fifo.png")
    opened: list[Path] = []
    really_open = Path.open

    def watch(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path)
        return really_open(path, *arguments, **options)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(Path, "open", watch)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return root, opened


HOSTILE_PATHS = [
    "",
    ".",
    "..",
    "../secret.png",
    "deep/../../secret.png",
    "./../secret.png",
    "..//secret.png",
    "deep/./.././../secret.png",
    "nothing/../../secret.png",
    "../images-of-others/secret.png",
    "../images/../secret.png",
    "%2e%2e/secret.png",
    "..%2fsecret.png",
    "..\\secret.png",
    "....//secret.png",
    "..\u2215secret.png",
    "\uff0e\uff0e/secret.png",
    "way-out/secret.png",
    "way-out/images/way-out/secret.png",
    "secret-link.png",
    "twice.png",
    "broken-link.png",
    "loop.png",
    "zero-link.png",
    "fifo.png",
    "deep",
    "good.png/..",
    "good.png\0",
    "\0",
    "good.png\0.jpg",
    "good.png ",
    "GOOD.PNG\n",
    "~/secret.png",
    "$HOME/secret.png",
    "*.png",
    "a" * 300,
    "a/" * 3000,
    "\ud800.png",
    "/etc/passwd",
    "/etc/hostname",
    "/dev/zero",
    "/dev/stdin",
    "/dev/fd/0",
    "/dev/random",
    "/dev/null",
    "/proc/self/environ",
    "/proc/self/mem",
    "/proc/self/exe",
    "/proc/self/cwd/README.md",
    "/proc/1/root/etc/passwd",
    "//etc/passwd",
    "http://127.0.0.1/a.png",
    "HTTPS://example.com/a.png",
    " http://127.0.0.1/a.png",
    "ftp://127.0.0.1/a.png",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "file:secret.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "DATA:,x",
    "s3://bucket/a.png",
    "gs://bucket/a.png",
    "hf://datasets/a.png",
    "smb://host/a.png",
    "//127.0.0.1/share/a.png",
    "\\\\127.0.0.1\\share\\a.png",
    "jar:file:///a.zip!/a.png",
    "javascript://a.png",
    "| cat /etc/passwd",
]


class TestPaths:
    def test_there_are_enough_hostile_paths(self) -> None:
        assert len(set(HOSTILE_PATHS)) >= 40

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=lambda path: ascii(path)[:40])
    def test_a_hostile_path_reads_nothing(
        self, path: str, watched: tuple[Path, list[Path]]
    ) -> None:
        root, opened = watched
        for door in (load_image, image_size):
            with pytest.raises(ImageError) as refusal:
                door(path, root=root)
            assert "; got " in str(refusal.value)
            assert str(refusal.value).isprintable()
        assert opened == []

    def test_an_absolute_path_to_a_secret_is_refused(
        self, watched: tuple[Path, list[Path]]
    ) -> None:
        root, opened = watched
        with pytest.raises(ImageError, match="lies outside the image folder; got .*secret.png"):
            load_image(root.parent / "secret.png", root=root)
        assert opened == []

    def test_control_paths_inside_the_root_are_read(self, watched: tuple[Path, list[Path]]) -> None:
        root, opened = watched
        inside = ["good.png", "deep/good.png", "deep/../good.png", "way-out/images/good.png"]
        for path in [*inside, root / "good.png", "inner-link.png"]:
            assert_same_pixels(load_image(path, root=root), PICTURE)
        assert len(opened) == 6
        assert all(path.is_relative_to(root) for path in opened)

    def test_the_root_may_itself_be_a_link(self, watched: tuple[Path, list[Path]]) -> None:
        root, _ = watched
        link = root.parent / "link"
        link.symlink_to(root)
        assert_same_pixels(load_image("good.png", root=link), PICTURE)

    def test_without_a_root_devices_and_urls_are_still_refused(
        self, watched: tuple[Path, list[Path]]
    ) -> None:
        root, opened = watched
        for path in ("/dev/zero", root / "fifo.png", root, "http://127.0.0.1/", "data:,"):
            with pytest.raises(ImageError):
                load_image(path)
        assert opened == []

    def test_each_refusal_says_what_to_do(self, watched: tuple[Path, list[Path]]) -> None:
        root, _ = watched
        written(root, b"", "empty.png")
        expected = {
            "none.png": r"none.png: does not exist; got /.*none.png; correct the path",
            "http://a/b": r"http://a/b: is a URL; got http://a/b; download it and give the file's",
            "deep": r"deep: is not a regular file; got drwx.*; give the path of an image file",
            "empty.png": r"empty.png: is empty; got 0 bytes; replace the file",
            "secret-link.png": r"lies outside the image folder; got /.*; move it below .* or set",
        }
        for path, message in expected.items():
            with pytest.raises(ImageError, match=message):
                load_image(path, root=root)
