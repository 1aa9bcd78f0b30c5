"""Learned extractors learn the marks, and teach them to the classifier by real gradients."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.mend.test_penalty import PAIRS, classifier, inputs
from tests.mend.test_regularise import QUICK, shortcut, spans_of
from tracemend.data import Splits
from tracemend.errors import TuningError
from tracemend.mend import Regularise
from tracemend.mend.extractor import (
    SHARES,
    LearnedExtractor,
    Together,
    comprehensiveness_loss,
    first_tokens,
    logits_of_part,
    plausibility_loss,
    share_of_step,
    sufficiency_loss,
)
from tracemend.mend.marks import marks_of_spans
from tracemend.mend.penalty import Penalty
from tracemend.mend.regularise import tune_marked
from tracemend.models import tiny
from tracemend.saliency import encoded
from tracemend.tuning import Tuning

ARCHITECTURES = ("bert", "gpt2", "llama", "t5")
TWO = Tuning(rank=2, max_length=48, precision="fp32")


@pytest.fixture(scope="module")
def splits() -> Splits:
    train, validation = shortcut(96, follows=0.5, seed=0), shortcut(32, follows=0.5, seed=1)
    return Splits(train=train, validation=validation, verdict=shortcut(48, follows=0.5, seed=2))


@pytest.mark.parametrize("extractor", ["shared", "separate"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_losses_reach_the_classifier_and_the_extractor(architecture: str, extractor: str) -> None:
    model = classifier(architecture)
    batch, y, targets = inputs(model)
    targets[:, 2] = 1.0
    of_text = batch["attention_mask"].bool()
    learned = LearnedExtractor.of(extractor, model, TWO)
    assert learned is not None and learned.shared == (extractor == "shared")
    with torch.no_grad():
        for name, parameter in learned.trainable().items():
            if "lora_B" in name:  # zeros at first, behind which nothing has a gradient
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    penalty = Penalty(criterion="bce", extractor=extractor, strength=1.0, comprehensiveness=0.5, sufficiency=0.5)
    logits, extra = penalty(model, batch, y, targets, of_text, learned=learned, step=4)
    torch.testing.assert_close(logits.detach(), model.logits(batch).detach())
    extra.backward()
    together = Together(model, learned)
    layers = {"bert": "layer", "gpt2": "h", "llama": "layers", "t5": "block"}[architecture]
    parts = [model.trainable()] if learned.shared else [model.trainable(), learned.trainable()]
    for own in parts:
        reached = [n for n, p in own.items() if p.grad is not None and p.grad.abs().max() > 0]
        assert {int(n.split(f".{layers}.")[1].split(".")[0]) for n in reached if f".{layers}." in n} >= {0, 1}
    weight = together.trainable()["extractor.head.weight"]
    assert weight.grad is not None and weight.grad.abs().max() > 0
    assert set(together.state()) == set(model.trainable()) | set(learned.trainable())


@pytest.mark.parametrize("extractor", ["shared", "separate"])
def test_a_fresh_one_is_that_of_its_seed_and_leaves_the_global_random_state(extractor: str) -> None:
    model, before = classifier(), torch.get_rng_state()
    learned = LearnedExtractor.of(extractor, model, TWO)
    assert learned is not None and torch.equal(torch.get_rng_state(), before)
    drawn = torch.empty(1, 32).normal_(0.0, 32**-0.5, generator=torch.Generator().manual_seed(TWO.seed))
    assert torch.equal(learned.head.weight, drawn) and not learned.head.bias.any()


def test_a_shared_one_builds_no_second_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()

    def second(*_: object) -> None:
        raise TuningError("a second classifier")

    monkeypatch.setattr(Tuning, "classifier", second)
    learned = LearnedExtractor.of("shared", model, TWO)
    assert learned is not None and learned.reader is model
    with pytest.raises(TuningError, match="a second classifier"):
        LearnedExtractor.of("separate", model, TWO)


def test_plausibility_alone_reaches_a_classifier_that_shares_its_states() -> None:
    model = classifier()
    batch, y, targets = inputs(model)
    learned = LearnedExtractor.of("shared", model, TWO)
    _, extra = Penalty(criterion="mse", extractor="shared")(
        model, batch, y, targets, batch["attention_mask"].bool(), learned=learned
    )
    extra.backward()
    reached = [n for n, p in model.trainable().items() if p.grad is not None and p.grad.abs().max() > 0]
    assert any(".layer.0." in name for name in reached) and any(".layer.1." in name for name in reached)
    assert not any("classifier" in name for name in reached)


def test_the_first_tokens_are_those_with_the_highest_scores_and_have_a_slope() -> None:
    scores = torch.tensor([[9.0, 0.5, -1.0, 2.0, 0.0]], requires_grad=True)
    of_text = torch.tensor([[False, True, True, True, True]])
    found = first_tokens(scores, of_text, 0.5)
    torch.testing.assert_close(found.detach(), torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]]))
    assert first_tokens(scores, of_text, 0.01).detach().sum() == 1
    (slope,) = torch.autograd.grad((found * torch.tensor([[1.0, 1.0, 2.0, 1.0, 1.0]])).sum(), scores)
    p = scores.detach().sigmoid()
    torch.testing.assert_close(slope, p * (1 - p) * torch.tensor([[0.0, 1.0, 2.0, 1.0, 1.0]]))
    assert [share_of_step(k) for k in range(6)] == [*SHARES, SHARES[0]]


@pytest.mark.parametrize("kind", ["lora", "prompt"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_parts_of_a_text_are_what_they_say(architecture: str, kind: str) -> None:
    model = classifier(architecture, kind)
    rows, _ = model.encode(PAIRS)
    batch = model.batch(rows)
    of_text = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
    for i, example in enumerate(encoded(model, PAIRS)):
        of_text[i, : len(example.ids)] = torch.from_numpy(example.of_text)
    all_kept = logits_of_part(model, batch, of_text.float(), of_text)
    torch.testing.assert_close(all_kept, model.logits(batch))
    tokenizer = model.language_model.tokenizer
    absent = tokenizer.pad_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    gone = {**batch, "input_ids": batch["input_ids"].masked_fill(of_text, absent)}
    none_kept = logits_of_part(model, batch, torch.zeros_like(of_text, dtype=torch.float32), of_text)
    torch.testing.assert_close(none_kept, model.logits(gone))


def test_losses_are_what_they_say() -> None:
    y = torch.tensor([0])
    sure, unsure, wrong = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    half = math.log(2)
    low = math.log(1 + math.exp(-9))
    assert float(comprehensiveness_loss(sure, wrong, y)) == 0.0  # lost by more than 1
    assert float(comprehensiveness_loss(sure, unsure, y)) == pytest.approx(1 + low - half, abs=1e-5)
    assert float(sufficiency_loss(unsure, sure, y)) == 0.0  # better by more than 0.1
    assert float(sufficiency_loss(sure, unsure, y)) == pytest.approx(half - low + 0.1, abs=1e-5)
    nan = float("nan")
    scores, targets = torch.tensor([[0.0, 2.0, -2.0, 5.0]]), torch.tensor([[1.0, 0.0, 0.0, nan]])
    p = scores[0, :3].sigmoid()
    r = torch.tensor([1.0, 0.0, 0.0])
    assert float(plausibility_loss("mse", scores, targets)) == pytest.approx(float((p - r).square().mean()))
    assert float(plausibility_loss("mae", scores, targets)) == pytest.approx(float((p - r).abs().mean()))
    weighed = -(2 * p[0].log() + (1 - p[1:]).log().sum()) / 3
    assert float(plausibility_loss("bce", scores, targets)) == pytest.approx(float(weighed))
    one_kind = plausibility_loss("bce", scores, torch.tensor([[0.0, nan, nan, nan]]))
    assert float(one_kind) == pytest.approx(half)
    with pytest.raises(TuningError, match="bce, mse"):
        plausibility_loss("norm", scores, targets)


@pytest.mark.slow
def test_an_extractor_learns_which_words_are_the_reason(splits: Splits) -> None:
    """On texts that it was not tuned on, against marks of other words; and nothing of it is left in the classifier."""
    tuning = replace(QUICK, epochs=12, rank=4, learning_rate=1e-2)
    penalty = Penalty(criterion="bce", extractor="shared", strength=1.0)
    model = tuning.classifier(tiny("bert"), splits.labels)
    names = set(model.trainable())
    examples = encoded(model, splits.train.pairs)
    spans = spans_of(splits.train) | spans_of(splits.verdict)
    marks = [marks_of_spans(e, spans[uid]) for e, uid in zip(examples, splits.train.uid, strict=True)]
    kept: list[LearnedExtractor] = []
    made = LearnedExtractor.of

    def remembered(*given: Any) -> LearnedExtractor | None:
        found = made(*given)
        kept.extend([found] if found is not None else [])
        return found

    def hits(extractor: LearnedExtractor) -> float:
        found = []
        for example, uid in zip(encoded(model, splits.verdict.pairs), splits.verdict.uid, strict=True):
            _, scores = extractor(model, model.batch([example.ids]))
            weights = example.of_words(scores[0, : len(example.ids)].detach().double().numpy())
            found.append(marks_of_spans(example, spans[uid])[int(np.nanargmax(weights))] == 1)
        return float(np.mean(found))

    fresh = LearnedExtractor.of("shared", model, tuning)
    assert fresh is not None
    before = hits(fresh)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LearnedExtractor, "of", remembered)
        tuned = tune_marked(model, splits.train, splits.validation, examples, marks, penalty, tuning)
    assert tuned.classifier is model and set(model.trainable()) == names
    assert hits(kept[0]) >= max(0.8, before + 0.3)


@pytest.mark.slow
def test_a_run_with_a_separate_extractor_goes_on_where_it_stopped(splits: Splits, tmp_path: Path) -> None:
    method = Regularise(
        criterion="bce", extractor="separate", strength=1.0, comprehensiveness=0.5, sufficiency=0.5, checked=3,
        tuning=replace(QUICK, epochs=2),
    )  # fmt: skip
    rationales = spans_of(splits.train) | spans_of(splits.verdict)
    small = replace(splits, train=splits.train.take(range(32)))
    rationales = {uid: of for uid, of in rationales.items() if uid in {*small.train.uid, *small.verdict.uid}}
    whole = method.run(tiny("bert"), small, rationales=rationales, out=tmp_path)
    assert "plausibility" in whole.metrics and set(whole.controls) == {"none", "other words"}
    shutil.rmtree(tmp_path / "tuning" / "adapter-0002")
    again = method.run(tiny("bert"), small, rationales=rationales, out=tmp_path)
    assert again.metrics == pytest.approx(whole.metrics, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extractor": "shared", "criterion": "norm"}, "norm is of gradients"),
        ({"extractor": "separate", "criterion": "bce"}, "shares nothing with the classifier"),
        ({"sufficiency": 0.5}, "losses of a learned extractor"),
        ({"extractor": "shared", "criterion": "bce", "comprehensiveness": -1.0}, "both are factors"),
        ({"extractor": "rationale"}, "gradient, attention, shared, separate"),
    ],
)
def test_bad_choices_are_told(changes: dict[str, object], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        replace(Penalty(), **changes).check(remove=True, add=True)


def test_a_learned_extractor_must_be_given() -> None:
    model = classifier()
    batch, y, targets = inputs(model)
    with pytest.raises(TuningError, match="is learned; give it"):
        Penalty(criterion="bce", extractor="shared")(model, batch, y, targets, batch["attention_mask"].bool())
