"""Lay the pictures of a built set beside their captions, as people keep their own.

python examples/own_pictures/lay_out.py outputs/data/tuxpaint outputs/own/pictures
"""

import json
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Copy each picture, and write its caption into a text file of the same name."""
    source, target = map(Path, sys.argv[1:])
    for rows in sorted(source.glob("*.jsonl")):
        for line in rows.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            picture = target / Path(row["query_image"]).relative_to("images")
            picture.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / row["query_image"], picture)
            picture.with_suffix(".txt").write_text(row["positive"], encoding="utf-8")


if __name__ == "__main__":
    main()
