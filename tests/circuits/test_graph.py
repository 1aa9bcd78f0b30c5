from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Graph
from tracemend.circuits.circuit import rows_of
from tracemend.circuits.judge import Judge, strongest
from tracemend.circuits.paired import PairedRuns
from tracemend.circuits.pruning import pruned
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.weights import unembedding
from tracemend.circuits.wiring import Wiring, edge_scores
from tracemend.data.prompts import PromptPairs
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, tiny
from tracemend.progress import Progress

SMALL, _, DATA = Graph.tiny()
PAIR = DATA.frame.iloc[0].to_dict()


def ready(model: LanguageModel) -> tuple[Wiring, PairedRuns, torch.Tensor, torch.Tensor]:
    wiring, run = Wiring(model), PairedRuns.of(model, PAIR, 0)
    return wiring, run, wiring.contributions(run.clean), wiring.contributions(run.corrupted)


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_contributions_add_up_and_the_ends_are_the_two_runs(name: str) -> None:
    model = decoder(name)
    wiring, run, clean, corrupted = ready(model)
    # What is left of the stream is the biases, the same on both prompts.
    rest = [runs.streams[-1][0] - parts.sum(0) for runs, parts in ((run.clean, clean), (run.corrupted, corrupted))]
    assert torch.allclose(rest[0], rest[1], atol=1e-4)
    whole = wiring.run(run.clean, corrupted, wiring.valid)
    none = wiring.run(run.clean, corrupted, torch.zeros_like(wiring.valid))
    assert torch.allclose(whole, run.clean.logits[0, -1], atol=1e-4)
    assert torch.allclose(none, run.corrupted.logits[0, -1], atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_scores_are_the_slopes_of_single_edges(name: str) -> None:
    """Where the news is small, what an edge is expected to do is what it does."""
    model = decoder(name)
    wiring, run, clean, corrupted = ready(model)
    rows = unembedding(model)
    ids = (ids_of(model, PAIR["clean"]), ids_of(model, PAIR["corrupted"]))
    news = 1e-2 * (corrupted - clean)
    scores = edge_scores(wiring, ids, rows[run.answer] - rows[run.foil], news, 1)
    assert not scores[~wiring.valid].any()
    edges = scores.abs().flatten().argsort(descending=True)[:8].tolist()
    edges += wiring.valid.flatten().nonzero().flatten()[::17].tolist()
    before = float(run.difference(run.clean.logits[0, -1]).double())
    said, found = [], []
    for flat in edges:
        edge = (flat // scores.shape[1], flat % scores.shape[1])
        kept = wiring.valid.clone()
        kept[edge] = False
        with torch.no_grad():
            found.append(float(run.difference(wiring.run(run.clean, clean + news, kept)).double()) - before)
        said.append(float(scores[edge]))
    assert np.corrcoef(said, found)[0, 1] > 0.98
    assert np.allclose(said, found, atol=0.15 * np.abs(said).max())


def planted() -> LanguageModel:
    """A decoder in which only L0H1 and L1H2 write anything."""
    model = tiny("llama")
    with torch.no_grad():
        for layer, head in ((0, 1), (1, 2)):
            block = model.network.model.layers[layer]
            block.mlp.down_proj.weight.zero_()
            silent = [i for i in range(32) if i // 8 != head]
            block.self_attn.o_proj.weight[:, silent] = 0
            block.self_attn.o_proj.weight *= 3
    return model


@pytest.mark.slow
def test_a_planted_circuit_is_recovered_and_confirmed() -> None:
    model = planted()
    found = replace(SMALL, shares=(0.15,), draws=5, checked=10, steps=5).run(model, DATA)
    parts = {"embedding", "L0H1", "L1H2"}
    rows = found.table()
    strong = rows[rows["score"].abs() > 1e-7]
    assert len(strong) and set(strong["writer"]) <= parts
    assert {reader.split(".")[0] for reader in strong["reader"] if reader.endswith(".q")} <= {"L0H1", "L1H2"}
    # All that the circuit leaves out writes nothing, so it carries everything; random edges do not.
    assert found.metrics["faithfulness"] == pytest.approx(1, abs=0.05)
    assert abs(found.controls["random edges"]["faithfulness"] - 1) > 0.2
    assert found.metrics["completeness"] == pytest.approx(0, abs=0.05)


@pytest.mark.slow
@torch.no_grad()
def test_pruning_takes_what_can_go() -> None:
    model = planted()
    wiring = Wiring(model)
    judge = Judge.of(model, wiring, rows_of(DATA), -1e9)
    scores = judge.scores(2, Progress())
    start = strongest(scores, wiring.valid, 40)
    assert judge.distances(wiring.valid) == pytest.approx(0, abs=1e-5)
    before = judge.distances(start)
    for tau in (0.0, 1e-3):
        left = pruned(judge, start, scores, tau)
        assert not (left & ~start).any()
        assert judge.distances(left) <= before + tau * int((start & ~left).sum()) + 1e-6
        # Of what is left nothing that is without effect: the parts that write nothing are gone.
        if tau:
            assert left.sum() < start.sum()
            assert {wiring.writers[writer] for _, writer in left.nonzero().tolist()} <= {"embedding", "L0H1", "L1H2"}
    assert not pruned(judge, start, scores, 1e9).any()


@pytest.mark.slow
def test_a_pruned_circuit_stands_beside_others_of_its_size() -> None:
    found = replace(SMALL, shares=(0.5,), prune=30, tau=1e-3).run(planted(), DATA)
    m, c = found.metrics, found.controls
    assert 0 < m["pruned"] == found.rows["pruned"].sum() <= 30
    assert m["pruned_faithfulness"] == pytest.approx(1, abs=0.2)
    assert {arm for arm in c if "pruned_faithfulness" in c[arm]} == {"random edges", "strongest edges", "random part"}
    assert abs(c["random edges"]["pruned_faithfulness"] - 1) > 0.2
    without = replace(SMALL, shares=(0.5,), prune=0).run(planted(), DATA)
    assert "pruned" not in without.metrics and not without.rows["pruned"].any()


FOUR = PromptPairs.make(
    [
        {
            **PAIR,
            "clean": f"{start} this good movie so",
            "corrupted": f"{start.replace('love', 'hate')} this good movie so",
        }
        for start in ("you love", "we love", "they love", "people love")
    ]
)


@pytest.mark.slow
def test_other_pairs_judge_than_those_that_chose() -> None:
    model = tiny("llama")
    how = replace(SMALL, shares=(0.1,), draws=4)
    found, rows = how.run(model, FOUR), FOUR.frame
    chose, judged = (PromptPairs.make(rows.iloc[at::2]) for at in (0, 1))
    alone = how.run(model, chose)
    # The edges are those that the first of each two pairs choose by themselves ...
    assert found.rows[["writer", "reader"]].equals(alone.rows[["writer", "reader"]])
    assert found.rows["score"].tolist() == pytest.approx(alone.rows["score"].tolist())
    assert found.controls["pairs that chose"]["faithfulness"] == pytest.approx(alone.metrics["faithfulness"], abs=1e-6)
    # ... and the figures are those of the others.
    wiring = Wiring(model)
    judge, chooser = (Judge.of(model, wiring, rows_of(pairs), -1e9) for pairs in (judged, chose))
    kept = strongest(chooser.scores(how.steps, Progress()), wiring.valid, round(0.1 * wiring.edges))
    with torch.no_grad():
        assert found.metrics["faithfulness"] == pytest.approx(judge.faithfulness(kept), abs=1e-5)
    assert found.metrics["faithfulness"] != pytest.approx(alone.metrics["faithfulness"], abs=1e-4)
    assert found.facts["judged by other pairs"] and found.facts["pairs that judged"] == 2 and not found.findings
    assert not alone.facts["judged by other pairs"] and "judge them as well" in alone.findings[0]
    assert "pairs that chose" not in alone.controls


@pytest.mark.slow
def test_random_circuits_of_a_size_have_a_spread() -> None:
    many = replace(SMALL, draws=4).run(tiny("llama"), DATA).sizes
    one = replace(SMALL, draws=1).run(tiny("llama"), DATA).sizes
    assert (many[["faithfulness_spread", "completeness_spread"]] > 0).all(axis=None)
    assert (one[["faithfulness_spread", "completeness_spread"]] == 0).all(axis=None)


@pytest.mark.slow
def test_larger_circuits_hold_smaller_ones() -> None:
    found = replace(SMALL, shares=(1.0, 0.05, 0.2)).run(tiny("llama"), DATA)
    assert found.sizes["share"].tolist() == [0.05, 0.2, 1.0]
    assert found.sizes["faithfulness"].iloc[-1] == pytest.approx(1, abs=1e-3)
    assert found.sizes["completeness"].iloc[-1] == pytest.approx(0, abs=1e-3)
    counts = found.rows.groupby("share").size().cumsum()
    assert counts.tolist() == found.sizes["edges"].tolist()
    assert found.rows["score"].abs().is_monotonic_decreasing


def test_bad_input_is_refused() -> None:
    model = tiny("llama")

    def pair(**changed: str) -> PromptPairs:
        return PromptPairs.make([{**PAIR, **changed}])

    for data, words in (
        (pair(corrupted="you hate this movie so"), "they must have as many"),
        (pair(corrupted=PAIR["clean"]), "nothing to patch"),
        (pair(answer="film movie"), "expected one"),
    ):
        with pytest.raises(CircuitError, match=words):
            SMALL.run(model, data)
    for changed, words in (
        ({"shares": (0.0,)}, "shares is"),
        ({"shares": ()}, "shares is"),
        ({"steps": 0}, "steps is 0"),
        ({"tau": -1.0}, "tau -1.0"),
        ({"prune": 10_000}, "prune fewer"),
        ({"floor": 1e9}, "does not do this task"),
        ({"max_memory": 1e-6}, "fewer pairs"),
    ):
        with pytest.raises(CircuitError, match=words):
            replace(SMALL, **changed).run(model, DATA)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("t5"), DATA)
    wiring, run, _, corrupted = ready(model)
    with pytest.raises(CircuitError, match="texts of one length"):
        wiring.run(run.clean, corrupted[:, 1:], wiring.valid)
