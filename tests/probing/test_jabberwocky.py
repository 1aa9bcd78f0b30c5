"""Made-up words are longer in tokens: where they do not fit a model's window, the probe goes on without them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tracemend.data import Treebank
from tracemend.errors import ProbeError
from tracemend.models import LanguageModel, tiny
from tracemend.probing import EdgeProbe, LayerProbe, StructuralProbe
from tracemend.probing.jabberwocky import jabberwocky, made_up_beside, unread
from tracemend.probing.made_up import tiny_treebank

PROBES = (
    LayerProbe(train_items=200, test_items=60, mdl=False, random_models=1),
    EdgeProbe(train_items=120, test_items=40, random_models=1),
    StructuralProbe(ranks=(4,), epochs=1, train_sentences=20, test_sentences=8, random_models=1),
)


def narrow(window: int) -> LanguageModel:
    """Six known words have eight tokens with CLS and SEP; a made-up word has one a character."""
    return replace(tiny("bert"), window=window)


def test_sentences_that_fit_are_read_and_the_others_named() -> None:
    bank = tiny_treebank()
    assert unread(bank.words, narrow(8)) is None and unread(bank.words, narrow(7)) is not None
    assert "window of" in str(unread(jabberwocky(bank).words, narrow(8)))
    assert unread(jabberwocky(bank).words, tiny("bert")) is None
    assert unread([], narrow(8)) is None


def test_no_made_up_word_is_one_of_another_part_or_of_the_vocabulary() -> None:
    bank, model = tiny_treebank(), tiny("bert")
    plain = {word for words in jabberwocky(bank).words for word in words} - {
        word for words in bank.words for word in words
    }
    (one, *_), (other, *_) = sorted(plain), sorted(plain, reverse=True)
    stranger = replace(bank, sentences=(*bank.sentences, replace(bank.sentences[0], words=(one,) * len(bank.words[0]))))
    known = {*model.tokenizer.get_vocab(), other}
    knowing = replace(model, tokenizer=SimpleNamespace(get_vocab=lambda: known))
    made = made_up_beside({"train": stranger, "test": bank}, knowing)
    assert made is not None
    assert not {word.lower() for words in made.words for word in words} & {one, other}


@pytest.mark.slow
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_goes_on_without_made_up_words_that_do_not_fit(
    probe: LayerProbe | StructuralProbe,
) -> None:
    bank = tiny_treebank()
    found, whole = (probe.run(model, bank) for model in (narrow(10), tiny("bert")))
    assert "jabberwocky" not in found.controls and not any("jabberwocky" in str(column) for column in found.table())
    assert sum("longer than the window" in said and "made-up" in said for said in found.findings) == 1
    assert "jabberwocky" in whole.controls and not any("the window" in said for said in whole.findings)
    kept = {name: value for name, value in whole.metrics.items() if name != "accuracy_replaced"}
    assert found.metrics == pytest.approx(kept)


@pytest.mark.parametrize("probe", PROBES[:2], ids=lambda probe: probe.name)
def test_a_sentence_of_the_treebank_that_does_not_fit_is_left_out_and_counted(probe: LayerProbe) -> None:
    found = probe.run(narrow(7), tiny_treebank())
    assert any("window of" in said and "were left out" in said for said in found.findings)


def test_trees_of_sentences_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ProbeError, match="fits the window"):
        PROBES[2].run(narrow(7), Treebank(sentences=tiny_treebank().sentences))
