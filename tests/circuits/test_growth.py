from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tracemend.circuits import AttentionOnly, Growth, MarkovSource, Repeats, Stages
from tracemend.circuits.growth import _figures, _finding
from tracemend.circuits.induction import Induction, head_scores
from tracemend.circuits.stages import kept_stages, trained
from tracemend.errors import CircuitError, RunError
from tracemend.models import tiny

METHOD, STAGES, DATA = Growth.tiny()
SMALL = AttentionOnly(layers=2, width=16, heads=2, steps=4, batch=4)
TEXTS = MarkovSource.draw(symbols=24, rules=0).texts(60)


def test_stages_are_the_model_as_it_was() -> None:
    model, stages = trained(SMALL, TEXTS, every=2)
    assert stages.steps == (0, 2, 4) and stages.get(4).fingerprint == model.fingerprint
    assert len({one.fingerprint for _, one in stages}) == 3
    # What was kept is no view of the network that went on training.
    assert stages.get(2).fingerprint != trained(replace(SMALL, seed=1), TEXTS, every=2)[1].get(2).fingerprint
    states = [one.network.state_dict() for _, one in stages]
    assert not any(torch.equal(states[0][name], states[2][name]) for name in ("model.embed_tokens.weight",))


def test_a_row_is_what_induction_says_of_that_stage() -> None:
    found = METHOD.run(STAGES, DATA)
    rows = found.table()
    assert rows["model"].tolist() == ["found"] * 3 + ["beside"] * 3 and rows["step"].tolist() == [0, 2, 4] * 2
    for row, (_, model) in zip(rows[rows["model"] == "found"].to_dict("records"), STAGES, strict=True):
        other = Induction(silence=(1,), draws=1).run(model, DATA)
        for name in ("loss_first", "loss_repeat", "in_context"):
            assert row[name] == pytest.approx(other.metrics[name], abs=1e-5)
        assert row["induction"] == pytest.approx(head_scores(model, DATA)["induction"].max(), abs=1e-6)
        assert row["induction_plain"] == pytest.approx(other.controls["not repeated"]["best"], abs=1e-6)
    assert found.controls.keys() == {"not repeated", "beside"} and "no phase change" in found.findings[0]


def test_a_phase_change_is_told_from_none() -> None:
    rows = pd.DataFrame(
        {"step": [0, 10, 20, 30], "in_context": [0.0, -0.1, -3.0, -3.1], "induction": [0.0, 0.1, 0.7, 0.8]}
    )
    flat = pd.DataFrame(
        {"step": [0, 10, 20, 30], "in_context": [0.0, -0.1, -0.2, -0.2], "induction": [0.0, 0.0, 0.02, 0.02]}
    )
    found, control = _figures(rows), _figures(flat)
    assert (found["fall_step"], found["rise_step"]) == (20, 20) and found["fall"] == pytest.approx(2.9)
    assert "they come at once" in _finding(found, [control])
    assert "no phase change" in _finding(found, [found]) and "no phase change" in _finding(control, [control])
    late = {**found, "rise_step": 30.0}
    assert "not at once" in _finding(late, [control])


@pytest.mark.slow
def test_checkpoints_are_kept_and_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = kept_stages(SMALL, TEXTS, tmp_path / "stages", every=2)
    # Transformers draws a bar for each file that it writes.
    assert capfd.readouterr().err == ""
    again = kept_stages(SMALL, TEXTS, tmp_path / "stages", every=2)
    assert kept.steps == again.steps == (0, 2, 4) and kept.fingerprint == again.fingerprint
    own = trained(SMALL, TEXTS, every=2)[1]
    assert [one.fingerprint for _, one in kept] == [one.fingerprint for _, one in own]
    assert kept.with_beside(kept).fingerprint != kept.fingerprint
    with pytest.raises(RunError, match="belongs to another run"):
        kept_stages(replace(SMALL, seed=1), TEXTS, tmp_path / "stages", every=2)
    found = METHOD.run(kept, Repeats.draw(kept.get(0), length=8, count=2))
    assert found.controls.keys() == {"not repeated"}


def test_bad_input_is_refused(tmp_path: Path) -> None:
    model = tiny("llama")
    (tmp_path / "checkpoint-3").mkdir()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CircuitError, match=r"holds \d checkpoints; expected two"):
            Stages.read(folder)
    for given in ([(0, model)], [(1, model), (1, model)]):
        with pytest.raises(CircuitError, match="two or more, each of them once"):
            Stages.of(given)
    with pytest.raises(CircuitError, match="takes Stages"):
        METHOD.run(model, DATA)
    with pytest.raises(CircuitError, match="takes Repeats"):
        METHOD.run(STAGES, TEXTS)
    with pytest.raises(CircuitError, match="draw them for the model"):
        METHOD.run(STAGES, Repeats.draw(model, length=20))
    with pytest.raises(CircuitError, match="is not defined for"):
        METHOD.run(Stages.of([(0, tiny("bert")), (1, tiny("bert", seed=1))]), DATA)
    with pytest.raises(CircuitError, match="draw shorter repeats"):
        replace(METHOD, max_memory=1e-7).run(STAGES, DATA)
