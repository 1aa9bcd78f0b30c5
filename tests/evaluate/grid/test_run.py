from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tracemend.errors import RunError, TracemendError
from tracemend.evaluate.grid import Cell, Grid, Results, by_unit, read_job, run_cells, run_side_by_side
from tracemend.evaluate.grid.run import job
from tracemend.progress import Progress

WORKER = Path(__file__).with_name("worker.py")


class Notes(Progress):
    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def note(self, event, **facts):
        self.all.append((event, facts))


def grid(*arms: str, seeds: int = 2) -> list[Cell]:
    return Grid(datasets=("a",), noises=("x",), rates=(0.3,), seeds=tuple(range(seeds)), arms=arms).cells()


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "rows", tmp_path / "failed")


def constant(cell: Cell) -> pd.DataFrame:
    return pd.DataFrame({"ap": [0.5, 0.6], "detector": ["one", "two"]})


def side_by_side(cells, results, *options, **more):
    command = [sys.executable, str(WORKER), str(results.folder.parent), *options]
    return run_side_by_side(cells, command, results, logs=results.folder.parent / "logs", **more)


def test_rows_carry_their_cell_and_a_finished_cell_is_never_run_again(results):
    calls = []

    def counted(cell):
        calls.append(cell)
        return constant(cell)

    assert run_cells(grid("p"), counted, results).done == 2
    assert run_cells(grid("p", "q"), counted, results).done == 2
    assert [c.arm for c in calls] == ["p", "p", "q", "q"]
    table = results.rows()
    assert len(table) == 8 and set(table["cell"]) == {c.fingerprint for c in grid("p", "q")}
    assert table[["arm", "seed", "detector"]].values.tolist()[:3] == [["p", 0, "one"], ["p", 0, "two"], ["q", 0, "one"]]


def test_an_error_ends_its_cell_alone_and_can_be_retried(results):
    def picky(cell):
        if cell.seed == 0:
            raise ValueError("no luck\nat all")
        return constant(cell)

    found = run_cells(grid("p"), picky, results)
    assert (found.done, found.failed, found.left) == (1, 1, [])
    failure = results.failures()[grid("p")[0].fingerprint]
    assert failure.error == "ValueError: no luck at all" and "Traceback" in failure.details
    assert failure.cell == grid("p")[0]
    assert run_cells(grid("p"), constant, results).done == 0  # not without being asked
    assert run_cells(grid("p"), constant, results, retry=True).done == 1
    assert not results.failures() and len(results.rows()) == 4


def test_ctrl_c_loses_the_cell_in_work_and_nothing_else(results):
    def interrupted(cell):
        if cell.seed == 1:
            raise KeyboardInterrupt
        return constant(cell)

    with pytest.raises(KeyboardInterrupt):
        run_cells(grid("p", seeds=3), interrupted, results)
    assert not results.failures()
    assert run_cells(grid("p", seeds=3), constant, results).done == 2


def test_no_cell_is_started_after_the_time(results):
    found = run_cells(grid("p"), constant, results, seconds=0.0)
    assert found.done == 0 and found.left == grid("p")


@pytest.mark.parametrize(
    ("rows", "said"), [(pd.DataFrame(), "no row"), (pd.DataFrame({"arm": ["p"]}), "columns named arm")]
)
def test_a_measurement_without_rows_or_with_the_cells_names_fails(results, rows, said):
    assert run_cells(grid("p", seeds=1), lambda cell: rows, results).failed == 1
    assert said in next(iter(results.failures().values())).error


def test_packing_keeps_every_row_and_what_is_finished(results):
    assert results.pack() is None and not len(results.rows())
    run_cells(grid("p"), constant, results)
    before = results.rows()
    path = results.pack()
    assert [p.name for p in results.folder.iterdir()] == [path.name]
    pd.testing.assert_frame_equal(results.rows(), before)
    assert run_cells(grid("p", "q"), constant, results).done == 2
    results.pack()
    assert len(results.rows()) == 8 and results.finished() == {c.fingerprint for c in grid("p", "q")}


def test_forgotten_cells_are_run_again_whether_packed_or_not(results):
    run_cells(grid("p"), constant, results)
    results.pack()
    run_cells(grid("q"), constant, results)
    assert results.forget([*grid("p", seeds=1), *grid("q"), *grid("r")]) == 3
    assert results.rows()[["arm", "seed"]].drop_duplicates().values.tolist() == [["p", 1]]
    assert [c.arm for c in results.waiting(grid("p", "q"))] == ["p", "q", "q"]
    assert results.forget(grid("p")) == 1 and not len(results.rows())


def test_a_kill_between_packing_and_tidying_up_doubles_nothing(results):
    run_cells(grid("p"), constant, results)
    single = {path: path.read_bytes() for path in results.folder.iterdir()}
    results.pack()
    for path, content in single.items():
        path.write_bytes(content)
    assert len(results.rows()) == 4


def test_arms_with_other_columns_stand_in_one_table(results):
    run_cells(grid("p"), lambda cell: pd.DataFrame({"ap": [0.5]}), results)
    run_cells(grid("q"), lambda cell: pd.DataFrame({"share": [0.5], "reason": [None]}), results)
    table = results.rows()
    assert table["ap"].notna().sum() == 2 and table["share"].dtype == float


def test_a_damaged_file_is_named(results):
    run_cells(grid("p", seeds=1), constant, results)
    path = next(results.folder.iterdir())
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(RunError, match=f"{path.name} is damaged"):
        results.rows()


def test_a_job_goes_through_a_pipe(tmp_path):
    path = tmp_path / "job"
    path.write_text(job(grid("p"), 3.5))
    read, write = os.pipe()
    with os.fdopen(read) as stream, os.fdopen(write, "w") as other_end:
        other_end.write(job(grid("p"), 3.5))
        other_end.flush()
        assert read_job(stream) == (grid("p"), 3.5)

        def closed() -> None:
            other_end.close()  # the interrupt may come before the next line
            time.sleep(10)

        with pytest.raises(KeyboardInterrupt):
            closed()
    path.write_text("hello")
    with path.open() as stream, pytest.raises(TracemendError, match="no job of a grid"):
        read_job(stream)


@pytest.mark.slow
def test_units_run_side_by_side_and_tell_how_long_it_takes(results, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    notes = Notes()
    found = side_by_side(grid("p", "q", "raises"), results, progress=notes)
    assert (found.done, found.failed, found.left) == (4, 2, [])
    table = results.rows()
    assert table["ap"].tolist() == [0.0, 0.0, 0.1, 0.1]
    assert set(table["threads"]) == {str(max(1, (os.cpu_count() or 1) // 2))}
    assert sorted(event for event, _ in notes.all) == ["cell"] * 4 + ["cell failed"] * 2
    assert notes.all[-1][1]["left"] == 0 and notes.all[-1][1]["minutes_left"] == 0


@pytest.mark.slow
def test_a_process_that_dies_costs_the_cell_it_was_at(results):
    found = side_by_side(grid("p", "dies", "q", seeds=1), results)
    assert (found.done, found.failed) == (2, 1)
    failure = next(iter(results.failures().values()))
    assert failure.cell.arm == "dies" and "status 7" in failure.error and "out of luck" in failure.details


@pytest.mark.slow
def test_workers_that_never_start_end_the_run(results):
    with pytest.raises(TracemendError, match="3 processes one after another"):
        side_by_side(grid("p", seeds=20), results, "broken")
    assert len(results.failures()) <= 4


def test_the_time_holds_for_workers_too(results):
    found = side_by_side(grid("p"), results, seconds=0.0)
    assert found.done == 0 and len(found.left) == 2


def test_no_worker_is_an_error(results):
    with pytest.raises(TracemendError, match="workers is 0"):
        side_by_side(grid("p"), results, workers=0)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_workers_end_with_the_run_and_what_is_finished_stays(tmp_path, how):
    script = (
        "import sys; from pathlib import Path; from tests.evaluate.grid.test_run import *\n"
        f"folder = Path({str(tmp_path)!r}); results = Results(folder / 'rows', folder / 'failed')\n"
        "side_by_side(grid('p', 'slow', seeds=2), results)"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(list((tmp_path / "rows").glob("*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(how)
    assert process.wait(20) != 0
    while working(tmp_path) and time.monotonic() - began < 15:
        time.sleep(0.1)
    assert not working(tmp_path)
    results = Results(tmp_path / "rows", tmp_path / "failed")
    assert set(results.rows()["arm"]) == {"p"} and not results.failures()


def working(folder: Path) -> bool:
    """Whether a worker of this folder is running."""
    listed = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return any("worker.py" in line and str(folder) in line for line in listed.splitlines())


def test_cells_of_several_grids_share_units():
    cells = [*grid("p"), *Grid(datasets=("a",), noises=("x",), rates=(0.3,), seeds=(0,), arms=("q",)).cells()]
    assert [len(own) for own in by_unit(cells).values()] == [2, 1]
