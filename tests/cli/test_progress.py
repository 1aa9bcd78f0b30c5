"""Progress as a person sees it."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress as RichProgress

from tracemend.cli.progress import Bars, shown
from tracemend.progress import Progress


def bars(*, terminal=True):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    return Bars(RichProgress(console=console)), console.file


def test_items_pass_unchanged_and_every_bar_is_taken_away():
    progress, _ = bars()
    assert list(progress.track([3, 1, 2], task="count")) == [3, 1, 2]
    assert not progress.rich.tasks


def test_a_loop_left_early_takes_its_bar_away():
    progress, _ = bars()
    loop = progress.track(range(5), task="count")
    next(loop)
    assert [task.total for task in progress.rich.tasks] == [5]
    loop.close()
    assert not progress.rich.tasks


def test_loops_within_loops():
    progress, _ = bars()
    pairs = [(i, j) for i in progress.track(range(2), task="a") for j in progress.track(range(2), task="b")]
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_a_person_wants_to_know_is_a_line_and_the_rest_is_not():
    progress, written = bars(terminal=False)
    progress.note("round", arm="repair", round=2, acted=7, ap=0.91234)
    progress.note("some detail", value=1)
    progress.note("cut", texts=3, tokens=24)
    progress.note("cut", texts=3, tokens=24)
    lines = written.getvalue().splitlines()
    assert lines == ["repair, round 2: 7 acted on, validation AP 0.912", "3 training texts are cut to 24 tokens"]


def test_what_an_arm_may_do_is_told_in_words():
    progress, written = bars(terminal=False)
    for candidates in (12, [37, 37], [8, 3], [1], []):
        progress.note("arm", arm="random", candidates=candidates)
    assert written.getvalue().splitlines() == [
        "random: up to 12 examples a round",
        "random: up to 37 examples a round",
        "random: up to 8, 3 examples in its rounds",
        "random: up to 1 example a round",
        "random: no round",
    ]


def test_an_arm_that_changes_no_label_is_given_no_number_of_them():
    progress, written = bars(terminal=False)
    progress.note("arm", arm="unchanged", candidates=[37, 37])
    assert written.getvalue() == "unchanged: as many rounds of tuning, no label changed (2 at most)\n"


def test_an_epoch_is_told_with_the_figure_that_it_has_or_none():
    progress, written = bars(terminal=False)
    progress.note("epoch", epoch=1, loss=0.5, validation_ap=0.75)
    progress.note("epoch", epoch=2, loss=0.4, validation_loss=1.25)
    progress.note("epoch", epoch=3, loss=0.3)
    assert written.getvalue().splitlines() == [
        "epoch 1: loss 0.500, validation AP 0.750",
        "epoch 2: loss 0.400, validation loss 1.250",
        "epoch 3: loss 0.300",
    ]


def test_quiet_is_silent():
    with shown(quiet=True) as progress:
        assert type(progress) is Progress
