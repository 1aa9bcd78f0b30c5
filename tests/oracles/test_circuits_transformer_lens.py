"""Activations, head scores, patches and attribution are those of transformer-lens 4 on the same weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from tracemend.circuits import Logits, Patch, Repeats
from tracemend.circuits.induction import head_scores
from tracemend.circuits.tokens import token_of
from tracemend.data.prompts import PromptPairs
from tracemend.models import LanguageModel, capture, load, tiny

pytest.importorskip("transformer_lens", reason="transformer-lens is the oracle here")

REAL = pytest.param("smollm2", marks=pytest.mark.slow)
SMALL_PAIR = {"clean": "you love this good movie so", "corrupted": "you hate this good movie so", "answer": "happy",
              "foil": "sad"}  # fmt: skip
PAIR = {
    "clean": "Then, Mary and John went to the store. John gave a drink to",
    "corrupted": "Then, Mary and John went to the store. Mary gave a drink to",
    "answer": "Mary",
    "foil": "John",
}
PARTS = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z", "attn.hook_pattern")


@pytest.fixture(scope="module", params=["llama", "gpt2", REAL])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Path]:
    model = load("smollm2") if request.param == "smollm2" else tiny(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return model, folder


def theirs(folder: Path, *, folded: bool = False) -> Any:
    from transformer_lens import TransformerBridge

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bridge = TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)
        if folded:
            bridge.enable_compatibility_mode()
    return bridge


def pair_of(model: LanguageModel) -> dict[str, str]:
    return PAIR if model.name == "smollm2" else SMALL_PAIR


def ids(model: LanguageModel, text: str) -> Tensor:
    return torch.as_tensor(model.tokenizer(text, return_tensors="pt").input_ids)


def close(found: Any, expected: Any) -> None:
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))


@torch.no_grad()
def test_activations(both: tuple[LanguageModel, Path]) -> None:
    model, folder = both
    tokens = ids(model, pair_of(model)["clean"])
    layers = model.network.config.num_hidden_layers
    names = [f"blocks.{i}.{part}" for i in range(layers) for part in PARTS]
    with capture(model, names) as seen:
        model.network(tokens, use_cache=False)
    _, cache = theirs(folder).run_with_cache(tokens)
    for name in names:
        close(seen[name], cache[name])


@torch.no_grad()
def test_head_scores(both: tuple[LanguageModel, Path]) -> None:
    model, folder = both
    data = Repeats.draw(model, length=10, count=2)
    found, r = head_scores(model, data), data.length
    _, cache = theirs(folder).run_with_cache(data.ids)
    second = torch.arange(data.start + r, data.start + 2 * r)
    for row in found.to_dict("records"):
        pattern = cache[f"blocks.{row['layer']}.attn.hook_pattern"][:, row["head"]]
        close(row["induction"], pattern[:, second, second - r + 1].mean())
        close(row["duplicate"], pattern[:, second, second - r].mean())


@torch.no_grad()
def test_patching(both: tuple[LanguageModel, Path]) -> None:
    from transformer_lens import patching

    model, folder = both
    pair = pair_of(model)
    answer, foil = (token_of(model, pair["clean"], pair[side]) for side in ("answer", "foil"))
    found = Patch(parts=("stream", "heads"), draws=1, floor=-1e9).run(model, PromptPairs.make([pair])).table()
    bridge = theirs(folder)
    clean, corrupted = (ids(model, pair[side]) for side in ("clean", "corrupted"))

    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, answer] - logits[0, -1, foil]

    ends, cache = bridge.run_with_cache(clean)
    high, low = metric(ends), metric(bridge(corrupted))
    layers, heads = model.network.config.num_hidden_layers, model.network.config.num_attention_heads
    # Some of the layers of a large model, and in these every other head: each is a run of the whole model there.
    some = range(0, layers, max(1, layers // 6))
    by_part = {
        "stream": ("resid_pre", patching.layer_pos_patch_setter, [(i, clean.shape[1] - 1) for i in some]),
        "heads": ("z", patching.layer_head_vector_patch_setter, [(i, j) for i in some for j in range(0, heads, 2)]),
    }
    for part, (name, setter, places) in by_part.items():
        index = pd.DataFrame(places, columns=["layer", "pos" if part == "stream" else "head"])
        expected = patching.generic_activation_patch(
            bridge, corrupted, cache, metric, setter, name, index_df=index, return_index_df=False
        )
        rows = found[(found["part"] == part) & found["position"].isin(["last", "all"])].set_index(["layer", "head"])
        keys = [(i, -1 if part == "stream" else j) for i, j in places]
        close([float(rows["effect"].loc[key]) for key in keys], (expected - low) / (high - low))


@torch.no_grad()
def test_attribution(both: tuple[LanguageModel, Path]) -> None:
    from transformer_lens.tools.analysis import direct_logit_attribution

    model, folder = both
    pair = pair_of(model)
    contrasts = PromptPairs.make([pair]).contrasts
    found = Logits().run(model, contrasts).parts("head")
    answer, foil = (token_of(model, pair["clean"], pair[side]) for side in ("answer", "foil"))
    expected = direct_logit_attribution(
        theirs(folder, folded=True), ids(model, pair["clean"]), answer, foil, unit="head"
    )
    values = dict(zip(expected.labels, expected.attribution.flatten().tolist(), strict=True))
    for row in found.to_dict("records"):
        close(row["value"], values[f"L{row['layer']}H{row['index']}"])
