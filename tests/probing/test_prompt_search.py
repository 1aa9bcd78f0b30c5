"""Searched prompts: the gradient points where the loss falls, and the controls show what a search learns by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.test_likelihood import masked_bert
from tracemend.data import Fact, Facts
from tracemend.errors import ModelError, ProbeError
from tracemend.models import tiny
from tracemend.probing import PromptSearch
from tracemend.probing.gap_scores import gap_scores, tokens_of
from tracemend.probing.prompt_search import MINED, NOTHING_MINED, SEARCHES, _between, _hard
from tracemend.probing.prompt_vectors import Slotted, batched, loss_of, typed_scores
from tracemend.probing.searches import continuous, discrete, nearest

MODELS = {"gpt2": lambda: tiny("gpt2"), "llama": lambda: tiny("llama"), "bert": masked_bert}
SUBJECTS, OBJECTS = ["my", "the people", "this"], ["good movie", "film", "xyz"]


def rows_of(model, slots, subjects=SUBJECTS, objects=OBJECTS):
    return batched(model, subjects, [tokens_of(model, o) for o in objects], slots, 2)


@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_of_embeddings_is_the_prompt_of_its_tokens(name):
    """The scores are those of the cloze probe for the same text."""
    model = MODELS[name]()
    table = model.network.get_input_embeddings().weight.detach()
    words = "is very" if model.family == "encoder" else " is very"
    tokens = model.tokenizer(words, add_special_tokens=False).input_ids
    candidates = ["film", "good movie"]
    made = [tokens_of(model, c) for c in candidates]
    found = typed_scores(model, table[tokens], SUBJECTS, made, 2)
    expected, _ = gap_scores(model, [f"{subject} is very [Y]" for subject in SUBJECTS], candidates, 4)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_the_derivative_of_the_loss(name):
    model = MODELS[name]()
    table = model.network.get_input_embeddings().weight.detach()
    prompt = table[[40, 41]].clone().requires_grad_()
    rows = rows_of(model, 2)
    (gradient,) = torch.autograd.grad(loss_of(model, prompt, rows), prompt)
    place = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
    step = torch.zeros_like(gradient)
    step[place] = 1e-2
    with torch.no_grad():
        up, down = (float(loss_of(model, prompt + sign * step, rows)) for sign in (1, -1))
    assert (up - down) / 2e-2 == pytest.approx(float(gradient[place]), rel=0.05)
    assert all(p.grad is None for p in model.network.parameters())


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_searches_lower_the_loss_and_stop(name):
    model = MODELS[name]()
    table = model.network.get_input_embeddings().weight.detach()
    before = {n: p.clone() for n, p in model.network.named_parameters()}
    start, rows = [45, 50], rows_of(model, 2)
    tokens, losses = discrete(model, start, rows, steps=6, candidates=4)
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] and len(tokens) == 2
    with torch.no_grad():
        assert float(loss_of(model, table[tokens], rows)) == pytest.approx(losses[-1], rel=1e-4)
    assert not set(tokens) & set(model.tokenizer.all_special_ids)
    vectors, course = continuous(model, table[start], rows, rows, steps=8, learning_rate=0.05)
    assert min(course) < course[0] and len(course) == 9
    with torch.no_grad():
        assert float(loss_of(model, vectors, rows)) == pytest.approx(min(course), rel=1e-4)
    assert all(torch.equal(before[n], p) for n, p in model.network.named_parameters())
    assert nearest(model, table[start]) == start
    # Nothing to gain: every slot is tried once.
    _, idle = discrete(model, tokens, rows, steps=50, candidates=1)
    assert len(idle) <= 51


@pytest.mark.slow
def test_the_best_single_token_is_found_when_all_are_tried():
    """Against the loss of the whole vocabulary."""
    model = tiny("gpt2")
    table = model.network.get_input_embeddings().weight.detach()
    rows = rows_of(model, 1)
    tokens, losses = discrete(model, [45], rows, steps=1, candidates=len(table))
    special = set(model.tokenizer.all_special_ids)
    with torch.no_grad():
        every = [float(loss_of(model, table[[t]], rows)) if t not in special else np.inf for t in range(len(table))]
    assert losses[-1] == pytest.approx(min(every), rel=1e-5) and every[tokens[0]] == pytest.approx(min(every))


def facts(n=24, patterns=("[X] is very [Y].", "[X] was a [Y]")):
    """Objects that are drawn without regard to the subject, one of them most of the time."""
    rng = np.random.default_rng(0)
    words = ["good", "good", "good", "bad", "sad"]
    made = tuple(Fact("is", f"{a} {b}", str(rng.choice(words))) for a in ("my", "your", "this", "that")
                 for b in ("film", "movie", "people", "day", "reply", "text")[: n // 4])  # fmt: skip
    return Facts(facts=made, patterns={"is": patterns})


def test_a_search_on_facts_without_a_rule_learns_frequencies_and_the_controls_show_it():
    method = PromptSearch(steps=4, candidates=4, vector_steps=15, learning_rate=0.05)
    found = method.run(tiny("gpt2"), facts())
    # Without texts nothing is mined.
    searches = [search for search in SEARCHES if search != MINED]
    assert list(found.metrics) == searches
    assert set(found.controls) == {"random_weights", "shuffled_facts", "majority"}
    assert found.controls["majority"]["discrete"] == found.controls["majority"]["first_pattern"]
    # Nobody knows these: what a search answers, it answers as well for shuffled facts.
    assert any("continuous search is not shown to be better than the most frequent object" in s or
               "continuous search is worse than the most frequent object" in s for s in found.findings)  # fmt: skip
    assert any("test facts are hard" in s for s in found.findings)
    table = found.table()
    assert table["search"].tolist() == searches and (table["facts"] == 8).all()
    assert table["prompt"].str.startswith("[X]").all()
    # Nothing is searched for a given pattern, so that shuffled facts are no control of it.
    shuffled = found.controls["shuffled_facts"]
    assert [s for s in searches if np.isnan(shuffled[s])] == ["first_pattern", "paraphrase"]


def test_hard_facts_are_answered_neither_by_random_weights_nor_by_the_most_frequent_object():
    import pandas as pd

    rows = pd.DataFrame(
        {"fact": ["a", "a", "b", "b"], "search": ["discrete", "continuous"] * 2, "random_weights": [0, 0, 0, 1],
         "shuffled_facts": [np.nan, 1.0] * 2, "majority": 0.0, "hit": 1.0}
    )  # fmt: skip
    assert _hard(rows)["fact"].tolist() == ["a", "a"]


def test_shuffled_facts_keep_what_is_tested():
    method = PromptSearch()
    (of,) = method._divided(tiny("gpt2"), facts())
    other = of.shuffled(0)
    assert other.test == of.test and other.candidates == of.candidates
    assert [f.subject for f in other.train] == [f.subject for f in of.train]
    assert sorted(f.object for f in [*other.train, *other.dev]) == sorted(f.object for f in [*of.train, *of.dev])
    assert other.train != of.train
    subjects = [{f.subject for f in part} for part in (of.train, of.dev, of.test)]
    assert not subjects[0] & subjects[2] and not subjects[0] & subjects[1] and not subjects[1] & subjects[2]


def test_words_between_subject_and_gap():
    assert _between("[X] is very [Y].") == "is very" and _between("[X] is [Y] .") == "is"
    assert _between("The [X] is [Y]") == _between("[Y] of [X]") == _between("[X] plays [Y] music") == ""


def test_patterns_are_mined_from_texts_chosen_and_judged_beside_the_controls():
    told = facts()
    texts = [f"they say {f.subject}, so very {f.object} ." for f in told.facts]
    method = PromptSearch(steps=1, candidates=1, vector_steps=1)
    found = method.run(tiny("gpt2"), told.with_texts(texts))
    assert list(found.metrics) == list(SEARCHES) and found.rows["search"].tolist() == list(SEARCHES)
    row = found.rows.set_index("search").loc[MINED]
    assert row["prompt"] == "[X], so very [Y]" and row["facts"] == 8
    assert MINED in found.controls["random_weights"] and MINED in found.controls["majority"]
    assert any(s.startswith("the mined search") and "shuffled facts" in s for s in found.findings)
    # What is chosen is the best of what was mined on the known facts, and nothing else.
    (of,) = method._divided(tiny("gpt2"), told.with_texts(texts))
    expected = method._asked(tiny("gpt2"), "[X], so very [Y]", of.test, of.candidates)
    assert found.metrics[MINED] == pytest.approx(float(expected.mean()))


def test_where_nothing_is_mined_nothing_is_answered_and_it_is_said():
    found = PromptSearch(steps=1, candidates=1, vector_steps=1).run(tiny("gpt2"), facts().with_texts(["no fact here"]))
    assert found.metrics[MINED] == 0 and NOTHING_MINED in found.rows["prompt"].tolist()
    assert any("nothing was mined there" in s and "of is," in s for s in found.findings)


@pytest.mark.parametrize(
    ("changes", "data", "said"),
    [
        ({"steps": 0}, facts(), "steps is 0"),
        ({"mined": 0}, facts(), "mined is 0"),
        ({"learning_rate": 0.0}, facts(), "learning_rate is 0"),
        ({}, facts(4), "4 facts; a search needs 6"),
        ({}, facts(patterns=("The [X] is [Y]",)), "a search begins with one"),
        ({"relations": ("is",)}, facts(patterns=("The [X] is [Y]",)), "nothing to begin a search with"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, data, said):
    with pytest.raises(ProbeError, match=said):
        replace(PromptSearch(), **changes).run(tiny("gpt2"), data)


def test_models_and_windows_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="without a language model head"):
        PromptSearch().run(tiny("bert"), facts())
    made = facts()
    strange = replace(made, facts=(*made.facts[:-1], made.facts[-1]._replace(object="电影")))
    with pytest.raises(ProbeError, match="cannot make the candidate"):
        PromptSearch().run(masked_bert(), strange)
    model = tiny("gpt2")
    with pytest.raises(ProbeError, match="take a shorter prompt"):
        Slotted.make(model, ["my"], [tokens_of(model, "film")], model.window)
