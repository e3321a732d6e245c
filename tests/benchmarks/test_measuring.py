"""The benchmarks' own arithmetic: medians and ratios, memory of a stretch, what differs is said."""

import json

import numpy as np
import pytest

from benchmarks.measuring import Meter, StepTimer, interleave, summary, table
from benchmarks.train_step import VARIANTS, differing_losses, parse_options, python_of

SPEED = "pairs_per_cpu_second"


def runs_of(*speeds, loss=1.0):
    return [{SPEED: speed, "peak_mib": 10.0, "first_loss": loss} for speed in speeds]


def test_the_median_is_compared_with_the_baseline_s():
    runs = {"naive": runs_of(2, 4, 100), "ours": runs_of(8, 1, 12)}
    naive, ours = summary(runs, speed=SPEED, baseline="naive")
    assert (naive["ratio"], ours["ratio"]) == (1, 2)
    assert ours["range"] == [1, 12]
    assert "| ours | 3 | 8.00 (1.00-12.00) | 2.00 | 10 | 1.0000 |" in table(
        [ours], speed=SPEED, baseline="naive"
    )


def test_without_the_baseline_there_is_no_ratio():
    (ours,) = summary({"ours": runs_of(8)}, speed=SPEED, baseline="naive")
    assert ours["ratio"] is None


def test_variants_take_turns_and_a_failing_one_is_left_out(capsys):
    turns = []

    def run(name):
        turns.append(name)
        if name == "broken":
            raise RuntimeError("no such package")
        return {SPEED: 1.0}

    assert interleave(["a", "broken", "b"], 2, run).keys() == {"a", "b"}
    assert turns == ["a", "broken", "b", "a", "b"]
    assert "no such package" in capsys.readouterr().err


def test_first_losses_that_should_be_equal_are_compared():
    def rows(ours):
        runs = {"naive": runs_of(1), "ours, one graph": runs_of(1, loss=ours)}
        return summary(runs, speed=SPEED, baseline="naive")

    assert differing_losses(rows(1.0001)) == []
    (told,) = differing_losses(rows(1.01))
    assert "ours, one graph" in told


def test_memory_is_counted_from_the_reset_on():
    np.ones(40 * 2**17).sum()  # 40 MiB, given back
    meter = Meter()
    assert meter.peak_mib() < 10
    np.ones(40 * 2**17).sum()
    assert 35 < meter.peak_mib() < 60
    meter.forget_peak()
    assert meter.peak_mib() < 10


def test_warm_steps_are_not_counted(tmp_path):
    timer = StepTimer(warm_steps=2, pairs=32, result=tmp_path / "result.json")
    timer.on_train_begin()
    timer.on_log(logs={"contrastive_loss": 3.0, "learning_rate": 0.1})
    timer.ends = [10.0, 15.0, 16.0, 17.0]
    timer.on_train_end()
    figures = json.loads((tmp_path / "result.json").read_text())
    assert figures[SPEED] == pytest.approx(32)
    assert figures["first_loss"] == 3.0


def test_rivals_run_only_where_their_package_is():
    def found(*arguments):
        options = parse_options(arguments)
        return {name for name in VARIANTS if python_of(name, options)}

    assert not any(name.startswith(("ST", "colpali")) for name in found())
    assert found("--python", "p", "--colpali-python", "c") == set(VARIANTS)
