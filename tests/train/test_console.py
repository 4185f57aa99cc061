"""The line a person watches: its units, and that it stays one line on a narrow terminal."""

import sys

from minimind.train.console import TrainingConsole

LINE = {"step": 1200, "loss": 2.34567, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 12345.6}
LINE |= {"mfu": 0.31, "memory_gb": 0.74, "seconds_left": 3725.0}


def test_units_of_a_person(capsys):
    TrainingConsole(quiet=False).step(LINE, 20_000)
    assert capsys.readouterr().err == (
        "step 1,200/20,000   6%  1 h 02 min left  loss 2.346  12,346 tokens/s  740 MB  |grad| 0.50  "
        "rate 1.0e-03  mfu 31%\n"
    )


def test_a_narrow_terminal_has_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    console = TrainingConsole(quiet=False)
    console.step(LINE, 20_000)
    assert capsys.readouterr().err == "\r\x1b[2Kstep 1,200/20,000   6%  1 h 02 min left  loss 2.3"


def test_a_stage_says_what_its_line_shows(capsys):
    """What the line does not have is left out: a score before the first evaluation, for example."""
    shown = ("reward {reward:.2f}", "held-out {held_out:.1%}", "KL {kl:.3f}", "{memory}")
    console = TrainingConsole(quiet=False)
    console.step(LINE | {"reward": 0.4}, 20_000, shown)
    console.step(LINE | {"reward": 0.6, "held_out": 0.725, "step": 2400}, 20_000, shown)
    assert [line.partition("left  ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "reward 0.40  740 MB",
        "reward 0.60  held-out 72.5%  740 MB",
    ]
