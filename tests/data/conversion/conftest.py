"""A folder to convert in, with pictures: red, green, blue, and red again under another name."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from jina.data.convert import Conversion, ConversionSummary, ConvertError, convert
from jina.data.records import parse_line


def picture_bytes(colour: str, file_format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(stream, file_format)
    return stream.getvalue()


@dataclass
class Workshop:
    """Sources are written to `folder`, the output is `out.jsonl` beside them."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    def write(self, name: str, content: str | bytes | object) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return file

    def convert(self, format: str, source: Path, *maps: str, **options: object) -> object:
        job = Conversion(
            format=format, source=source, maps=maps, **{"output": self.output, **options}
        )
        return convert(job)

    def rows(self, format: str, source: Path, *maps: str, **options: object) -> list[object]:
        """Convert, and return the rows, each of which has to be sound."""
        summary = self.convert(format, source, *maps, **options)
        assert isinstance(summary, ConversionSummary)
        lines = [line for file in summary.files for line in file.read_bytes().splitlines()]
        for number, line in enumerate(lines, start=1):
            parse_line(line, file="out.jsonl", line=number)
        return [json.loads(line) for line in lines]

    def problems(self, format: str, source: Path, *maps: str, **options: object) -> list[str]:
        """Convert what is refused, see that nothing was written, and return what was said."""
        before = self.files()
        with pytest.raises(ConvertError) as refusal:
            self.convert(format, source, *maps, **options)
        assert self.files() == before
        assert str(refusal.value) == "\n".join(refusal.value.problems)
        prefix = f"{self.folder.resolve()}/"
        return [problem.replace(prefix, "") for problem in refusal.value.problems]

    def files(self) -> dict[Path, bytes]:
        found = {
            path: path.read_bytes() if path.is_file() else b"" for path in self.folder.rglob("*")
        }
        assert not [path for path in found if path.suffix == ".partial"]
        return found


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """An empty folder with pictures below `images`."""
    shop = Workshop(tmp_path)
    for colour in ("red", "green", "blue"):
        shop.write(f"images/{colour}.png", picture_bytes(colour))
    # Equal pixels in other bytes.
    shop.write("images/rouge.bmp", picture_bytes("red", "BMP"))
    return shop
