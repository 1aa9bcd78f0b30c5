"""Penalties on attributions are what they say, and reach the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tracemend.errors import ModelError, TuningError
from tracemend.mend.penalty import Penalty, by_attention, by_gradient, norm_penalty, share_penalty
from tracemend.models import tiny
from tracemend.saliency import AttentionWeights, encoded
from tracemend.saliency.inputs import batches
from tracemend.tuning import TextClassifier

LABELS = ("safe", "unsafe")
PAIRS = [("good movie please", None), ("i hate this film please", "stop"), ("nice", None)]
ARCHITECTURES = ("bert", "gpt2", "llama", "t5")


def classifier(architecture: str = "bert", kind: str = "lora") -> TextClassifier:
    made = TextClassifier(tiny(architecture), LABELS, kind=kind, rank=2, virtual_tokens=2, max_length=48)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def inputs(model: TextClassifier) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    rows, _ = model.encode(PAIRS)
    batch = model.batch(rows)
    targets = torch.full(batch["attention_mask"].shape, torch.nan)
    targets[:, 1] = 0.0
    return batch, torch.tensor([0, 1, 0]), targets


@pytest.mark.parametrize("kind", ["lora", "prompt", "head"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_norm_alone_reaches_every_layer_and_is_the_derivative(architecture: str, kind: str) -> None:
    if kind == "head" and architecture != "bert":
        pytest.skip("only encoders have a head")
    model = classifier(architecture, kind)
    batch, y, _ = inputs(model)
    targets = torch.zeros(batch["attention_mask"].shape)

    def loss() -> torch.Tensor:
        _, x, g = by_gradient(model, batch, y)
        assert x.shape == g.shape == (*targets.shape, 32)
        return norm_penalty(g, targets, torch.ones_like(targets, dtype=torch.bool))

    loss().backward()
    gradients = {name: p.grad for name, p in model.trainable().items() if p.grad is not None}
    reached = [name for name, g in gradients.items() if g.abs().max() > 0]
    assert reached
    if kind == "lora":
        # The head's bias moves every text alike, so that no attribution knows it. The decoder's own attention sees its
        # start alone.
        missed = [n for n in model.trainable() if n not in reached and "bias" not in n and "decoder" not in n]
        assert not missed
        assert {int(n.split(f"{word}.")[1].split(".")[0]) for word in ("layer", "h", "layers", "block")
                for n in reached if f".{word}." in n} >= {0, 1}  # fmt: skip
    if architecture == "t5":
        return  # its ReLUs have kinks, which a difference steps over
    name = max(gradients, key=lambda n: float(gradients[n].abs().max()))
    parameter, gradient = model.trainable()[name], gradients[name]
    place = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
    values = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            parameter[place] += step
        values.append(float(loss().detach()))
        with torch.no_grad():
            parameter[place] -= step
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(float(gradient[place]), rel=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_is_that_of_the_saliency_room_and_has_a_gradient(architecture: str) -> None:
    model = classifier(architecture)
    batch, _, targets = inputs(model)
    logits, phi = by_attention(model, batch)
    examples = encoded(model, PAIRS)
    (expected,) = batches(model, examples, [0, 1, 0], 8)
    found, _ = AttentionWeights().tokens(model, expected)
    back = np.argsort(expected.at)
    torch.testing.assert_close(phi.detach(), found[back][:, : phi.shape[1]])
    torch.testing.assert_close(logits.detach(), model.logits(batch).detach())
    share_penalty("mse", phi, targets, batch["attention_mask"].bool()).backward()
    reached = [n for n, p in model.trainable().items() if p.grad is not None and p.grad.abs().max() > 0]
    assert reached and not any("classifier" in name for name in reached)


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix", "ia3", "full"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_has_a_gradient_whatever_is_tuned(architecture: str, kind: str) -> None:
    model = classifier(architecture, kind)
    batch, y, targets = inputs(model)
    penalty = Penalty(criterion="mse", extractor="attention")
    penalty.check_classifier(model)
    _, loss = penalty(model, batch, y, targets, batch["attention_mask"].bool())
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.trainable().values())


def test_a_head_alone_cannot_change_the_attention() -> None:
    with pytest.raises(TuningError, match="choose the adapter lora, prompt or full"):
        Penalty(criterion="mse", extractor="attention").check_classifier(classifier("bert", "head"))
    Penalty().check_classifier(classifier("bert", "head"))


def test_criteria_are_what_they_say() -> None:
    x = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
    g = torch.tensor([[[3.0, 4.0], [-1.0, 0.0], [0.0, 5.0]]])
    phi = (x * g).sum(-1)  # 3, -2, 5: shares 0.3, -0.2, 0.5
    of_text = torch.ones(1, 3, dtype=torch.bool)
    nan = float("nan")
    away, keep = torch.tensor([[0.0, 0.0, nan]]), torch.tensor([[1.0, nan, 0.0]])

    def value(criterion: str, targets: torch.Tensor) -> float:
        return float(share_penalty(criterion, phi, targets, of_text))

    assert float(norm_penalty(g, away, of_text)) == pytest.approx((25 + 1) / 2)
    # Norms 5, 1, 5: the token that should matter is the first already, or a fifth of the first.
    assert float(norm_penalty(g, keep, of_text)) == pytest.approx(25)
    second = torch.tensor([[nan, 1.0, nan]])
    assert float(norm_penalty(g, second, of_text)) == pytest.approx(0.8**2)
    assert value("mse", away) == pytest.approx((0.3**2 + 0.2**2) / 2)
    assert value("mae", keep) == pytest.approx((0.7 + 0.5) / 2)
    assert value("huber", away) == pytest.approx((0.3**2 + 0.2**2) / 4)
    assert value("bce", keep) == pytest.approx(-(np.log(0.3) + np.log(0.5)) / 2, rel=1e-5)
    softmax = np.exp([3, -2, 5]) / np.exp([3, -2, 5]).sum()
    assert value("kl", keep) == pytest.approx(-np.log(softmax[0]), rel=1e-5)
    assert value("order", keep) == pytest.approx((0.3 - 0.5) ** 2, rel=1e-5)
    # What does not apply is nothing, and has a gradient all the same.
    assert value("kl", away) == value("order", away) == 0.0
    with pytest.raises(TuningError, match="mse"):
        share_penalty("l2", phi, away, of_text)


@pytest.mark.parametrize("criterion", ["mse", "mae", "huber", "bce", "kl", "order"])
def test_gradients_are_finite_where_some_texts_lack_a_kind_of_mark(criterion: str) -> None:
    phi = torch.tensor([[0.3, -0.2, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.5]], requires_grad=True)
    nan = float("nan")
    targets = torch.tensor([[1.0, 0.0, nan], [0.0, nan, nan], [nan, nan, 1.0]])
    of_text = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    found = share_penalty(criterion, phi, targets, of_text)
    found.backward()
    assert torch.isfinite(found) and phi.grad is not None and torch.isfinite(phi.grad).all()


def test_a_norm_of_zero_has_a_gradient() -> None:
    g = torch.zeros(1, 2, 3, requires_grad=True)
    norm_penalty(g, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)).backward()
    assert g.grad is not None and torch.isfinite(g.grad).all()


def test_sdpa_is_refused() -> None:
    model = classifier("llama")
    model.network.get_base_model().set_attn_implementation("sdpa")
    batch, y, _ = inputs(model)
    with pytest.raises(ModelError, match='attention="eager"'):
        by_gradient(model, batch, y)
    with pytest.raises(ModelError, match='attention="eager"'):
        by_attention(model, batch)


@pytest.mark.parametrize(
    ("penalty", "kinds", "said"),
    [
        (Penalty(criterion="l2"), (True, False), "norm, mse"),
        (Penalty(extractor="lime"), (True, False), "gradient, attention"),
        (Penalty(strength=0.0), (True, False), "above 0"),
        (Penalty(strength=float("nan")), (True, False), "above 0"),
        (Penalty(extractor="attention"), (True, False), "norm is of gradients"),
        (Penalty(criterion="kl"), (True, False), "words that should matter"),
        (Penalty(criterion="order"), (True, False), "name both"),
    ],
)
def test_bad_choices_are_told(penalty: Penalty, kinds: tuple[bool, bool], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        penalty.check(remove=kinds[0], add=kinds[1])


def test_a_choice_that_fits_is_taken() -> None:
    Penalty().check(remove=True, add=True)
    Penalty(criterion="order", extractor="attention").check(remove=True, add=True)
