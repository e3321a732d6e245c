"""`train.py` as it would be if it took no notice of equal contents: a part of `benchmarks.recipe`.

No two items are the same to it: rows that ask for the same thing meet in one batch, and each takes
the other's right answer for a wrong one. Takes the arguments of `train.py`.
"""

import itertools
import sys

import train
from jina.data.batch_sampler import RowIdentities
from jina.data.data_collator import ContrastiveDataCollator

_numbers = itertools.count()
_sequence = ContrastiveDataCollator._sequence


def main() -> int:
    """Train."""
    RowIdentities.of = lambda self, row: {row}
    ContrastiveDataCollator._sequence = lambda self, *item: (
        _sequence(self, *item)[0],
        next(_numbers),
    )
    return train.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
