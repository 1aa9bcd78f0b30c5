"""Layer probes: what they find in vectors that hold it, and what they say where nothing is held."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracemend.data import Labelled, Sentence, Treebank, available_folder, read_conllu
from tracemend.errors import ProbeError
from tracemend.models import load, represent, tiny
from tracemend.probing import LayerProbe, ProbeResult
from tracemend.probing.layers import LayerProbeResult
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.posed import Posed, within
from tracemend.probing.result import compared
from tracemend.probing.tasks import Items
from tracemend.progress import Progress


@pytest.fixture(scope="module")
def found():
    method, model, data = LayerProbe.tiny()
    return method.run(model, data)


def test_every_control_is_there(found):
    assert set(found.controls) == {
        "random_weights", "shuffled_labels", "majority", "layer_0", "control_task", "word_type", "local_context",
        "jabberwocky",
    }  # fmt: skip
    assert set(found.metrics) >= {"accuracy", "macro_f1", "selectivity", "compression"}
    assert list(found.table()["layer"]) == [0, 1, 2]
    assert found.controls["random_weights"].keys() == found.metrics.keys()


def test_in_a_grammar_where_the_word_gives_the_tag_the_tool_says_that_training_shows_nothing(found):
    assert found.metrics["accuracy"] == found.controls["word_type"]["accuracy"] == 1.0
    assert any("random weights is" not in s and "random weights does as well" in s for s in found.findings)
    assert any("the word's usual label does as well" in s for s in found.findings)
    assert found.controls["shuffled_labels"]["accuracy"] < 0.7
    assert found.controls["majority"]["accuracy"] < 0.6


def test_the_selectivity_is_the_difference_and_the_chosen_layer_is_the_best_on_dev(found):
    table = found.table()
    np.testing.assert_allclose(table["selectivity"], table["accuracy"] - table["control_task"])
    best = table.loc[table["dev_accuracy"].idxmax()]
    assert found.facts["best_layer"] == best["layer"] and found.metrics["accuracy"] == best["accuracy"]
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()


def test_it_comes_back_with_its_findings_and_is_drawn_as_a_curve(found, tmp_path):
    again = LayerProbeResult.load(found.save(tmp_path))
    assert list(again.findings) == list(found.findings) and again.facts["n_test"] == found.facts["n_test"]
    assert len(again.figure().axes[0].lines) >= 4
    assert isinstance(ProbeResult.load(tmp_path), ProbeResult)


def test_a_grammar_in_which_words_give_the_tags_is_lost_on_made_up_words(found):
    made_up = found.controls["jabberwocky"]
    assert made_up["accuracy_replaced"] < 0.8 < found.metrics["accuracy_replaced"] == 1.0
    table = found.table().set_index("layer")
    best = found.facts["best_layer"]
    assert table["jabberwocky"][best] == made_up["accuracy"] < 1.0
    assert table["jabberwocky_replaced"][best] == made_up["accuracy_replaced"]
    assert any(said.startswith("With made-up open-class words") for said in found.findings)


def test_nothing_is_made_up_where_the_task_asks_for_words_or_no_tags_say_which_are_open():
    words = LayerProbe(task="previous-word", train_items=150, test_items=40, mdl=False, random_models=1)
    assert "jabberwocky" not in words.run(tiny("bert"), tiny_treebank()).controls
    untagged = labelled_bank(lambda i: ("A", "B"))
    assert "jabberwocky" not in LayerProbe(task="x", mdl=False, random_models=1).run(tiny("bert"), untagged).controls


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_every_family(architecture):
    method = LayerProbe(task="deprel", train_items=150, test_items=40, mdl=False, hidden=4)
    found = method.run(tiny(architecture), tiny_treebank())
    assert "compression" not in found.metrics and found.metrics["accuracy"] > 0.5


def test_sentences_and_labelled_texts():
    bank = tiny_treebank()
    found = LayerProbe(task="length", train_items=60, test_items=20, mdl=False).run(tiny("bert"), bank)
    assert "control_task" not in found.controls and found.metrics["accuracy"] > 0.9
    texts = [" ".join(s.words) + f" {i}" for i, s in enumerate(bank.sentences)]
    labelled = Labelled.make(texts, ["long" if len(s) > 4 else "short" for s in bank.sentences])
    found = LayerProbe(task="label", mdl=False, pooling="first").run(tiny("bert"), labelled)
    assert found.facts["labels"] == ["long", "short"]


def test_intervals_of_texts_resample_their_groups():
    bank = tiny_treebank()
    texts = [" ".join(s.words) + f" {i}" for i, s in enumerate(bank.sentences)]
    labels = ["long" if len(s) > 4 else "short" for s in bank.sentences]
    names = [f"g{i // 4}" if i % 8 < 4 else None for i in range(len(texts))]
    probe = LayerProbe(task="label", test_items=12)
    parts = probe._parts(Labelled.make(texts, labels, groups=names), tiny("bert"))
    # What is sampled and left out keeps its group; a text without one stands alone.
    posed = Posed.of(parts, 0)
    group = dict(zip(texts, names, strict=True))
    named = [group[posed.parts["test"].form[i]] for i in range(len(posed.groups))]
    alike = [[(a is not None and a == b) or i == j for j, b in enumerate(named)] for i, a in enumerate(named)]
    assert [[a == b for b in posed.groups] for a in posed.groups] == alike
    assert any(name is None for name in named) and len(set(posed.groups)) < len(named)


def test_the_cache_is_used_again(tmp_path):
    method, model, data = LayerProbe.tiny()
    first = replace(method, mdl=False, random_models=1).run(model, data, cache=tmp_path)
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert len(list(tmp_path.iterdir())) == 2  # the model and an untrained one
    second = replace(method, mdl=False, hidden=3, random_models=1).run(model, data, cache=tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == written
    assert second.config["hidden"] == 3 and first.config["hidden"] == 0


def labelled_bank(tags):
    made = [Sentence(words=("good", "film"), tags={"x": tags(i)}, id=f"s{i}", document=f"d{i}") for i in range(60)]
    return Treebank(sentences=tuple(made))


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        (lambda i: ("A", "A"), "needs two"),
        (lambda i: ("A", "B" if i < 3 else "A"), "1 label with at least 10"),
    ],
)
def test_one_label_and_labels_that_are_too_rare_are_refused(tags, word):
    with pytest.raises(ProbeError, match=word):
        LayerProbe(task="x", mdl=False).run(tiny("bert"), labelled_bank(tags))


def test_a_rare_label_is_left_out_and_named():
    rare = labelled_bank(lambda i: ("A", "C" if i % 20 == 0 else "B"))
    found = LayerProbe(task="x", mdl=False).run(tiny("bert"), rare)
    assert found.facts["labels"] == ["A", "B"]
    assert any("left out: C" in sentence for sentence in found.findings)


def test_labels_of_test_that_training_lacks_count_as_errors_and_are_named():
    made = []
    for i in range(60):
        part = "train" if i < 30 else "dev" if i < 40 else "test"
        tags = {"x": ("A", "B", "C" if part == "test" else "")}
        made.append(Sentence(words=("good", "film", "people"), tags=tags, id=f"s{i}", document=f"d{i // 2}", part=part))
    found = LayerProbe(task="x", mdl=False).run(tiny("bert"), Treebank(sentences=tuple(made)))
    assert found.facts["n_test"] == 60 and found.facts["labels"] == ["A", "B"]
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert found.metrics["macro_f1"] < 0.7
    assert found.controls["word_type"]["accuracy"] <= 2 / 3
    assert any(said.startswith("20 of the test items") and said.endswith("C (20).") for said in found.findings)


def test_the_most_frequent_label_that_does_as_well_is_named():
    same = labelled_bank(lambda i: ("A" if i % 3 else "B", "A"))
    found = LayerProbe(task="x", mdl=False).run(tiny("bert"), same)
    assert found.metrics["accuracy"] == found.controls["majority"]["accuracy"]
    assert any(said.endswith("the most frequent label does as well.") for said in found.findings)


@pytest.mark.parametrize(
    "wrong",
    [{"c": 0}, {"c": float("nan")}, {"c": float("inf")}, {"random_models": 0}, {"train_items": 0}, {"hidden": -1}],
)
def test_a_configuration_that_cannot_be_is_refused(wrong):
    with pytest.raises(ProbeError, match=r"must be (above 0|at least [01])"):
        LayerProbe(**wrong).run(tiny("bert"), tiny_treebank())


def test_layers_that_are_named_twice_are_refused():
    with pytest.raises(ProbeError, match="each once"):
        LayerProbe(layers=(2, 0, 2)).run(tiny("bert"), tiny_treebank())


def test_texts_that_are_too_long_are_left_out_and_few_give_no_codelength():
    texts = [f"{('good', 'bad')[i % 2]} movie {i}" + " so" * (40 if i % 10 == 3 else 0) for i in range(120)]
    labelled = Labelled.make(texts, [("a", "b")[i % 2] for i in range(120)])
    found = LayerProbe(task="label", random_models=1).run(replace(tiny("bert"), window=30), labelled)
    assert any("texts have more tokens than the window of" in said for said in found.findings)
    assert any("No codelength was taken" in said for said in found.findings)
    assert "compression" not in found.metrics and found.facts["n_train"] < 90


def test_a_part_whose_items_are_all_in_texts_too_long_is_refused():
    """Also where a text without an item fits."""
    words = (("good",) * 60, ("bad", "movie"))
    of = Items(words, np.array([0]), np.array([0]), ("a",), ("good",), "word")
    with pytest.raises(ProbeError, match="no text of train fits the window"):
        within(dict.fromkeys(("train", "dev", "test"), of), replace(tiny("bert"), window=30))


def test_what_a_comparison_says():
    assert compared("layer 2", "random weights", 0.2, 0.1, 0.3).startswith("layer 2 beats")
    assert compared("layer 2", "random weights", 0.01, -0.01, 0.03).endswith("random weights does as well.")
    assert compared("layer 2", "random weights", 0.3, -0.1, 0.7).endswith("these data do not tell them apart.")
    assert "worse" in compared("layer 2", "random weights", -0.2, -0.3, -0.1)


@pytest.mark.slow
def test_the_command_keeps_a_run(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from tracemend.cli import app

    monkeypatch.chdir(tmp_path)
    model = tiny("bert")
    model.network.save_pretrained("model")
    model.tokenizer.save_pretrained("model")
    rows = []
    for s in tiny_treebank().sentences:
        rows.append(f"# newdoc id = {s.document}")
        heads = s.heads or ()
        for i, word in enumerate(s.words):
            rows.append(
                f"{i + 1}\t{word}\t{word}\t{s.tags['upos'][i]}\t_\t_\t{heads[i] + 1}\t{s.tags['deprel'][i]}\t_\t_"
            )
        rows.append("")
    (tmp_path / "bank.conllu").write_text("\n".join(rows), "utf-8")
    given = ["probe", "layers", "--model", "model", "--data", "bank.conllu", "--out", "out", "--no-mdl", "--quiet"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "random weights" in done.output and "does as well" in done.output
    result = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    assert result["command"] == "probe layers" and result["status"] == "complete" and result["findings"]
    assert {"rows.csv", "figure.svg", "method.json"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert CliRunner().invoke(app, given).output == done.output
    other = CliRunner().invoke(app, [*given, "--task", "deprel"])
    assert other.exit_code == 2 and "belongs to another run" in " ".join(other.stderr.split())


@pytest.mark.slow
def test_several_probes_share_a_folder_of_representations(tmp_path):
    from tracemend.probing.run import probe_run

    method, model, data = LayerProbe.tiny()
    once = replace(method, mdl=False)
    probe_run(once, model, data, out=tmp_path / "a", data_name="x", cache=tmp_path / "shared")
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "shared").rglob("*") if p.is_file()}
    assert len(list((tmp_path / "shared").iterdir())) == 1 + once.random_models
    other = replace(once, task="deprel")
    probe_run(other, model, data, out=tmp_path / "b", data_name="x", cache=tmp_path / "shared")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "shared").rglob("*") if p.is_file()} == written
    assert not (tmp_path / "a" / "representations").exists()


@pytest.mark.slow
def test_part_of_speech_in_minilm():
    folder = available_folder("ud_ewt")
    if folder is None:
        pytest.skip("ud_ewt is not here; set TRACEMEND_DATA")
    method = LayerProbe(train_items=2500, test_items=1000, mdl=False)
    found = method.run(load("minilm"), read_conllu(folder))
    assert found.facts["best_layer"] in (2, 3, 4)
    assert found.metrics["accuracy"] > found.controls["random_weights"]["accuracy"] + 0.1
    assert found.metrics["accuracy"] > found.controls["layer_0"]["accuracy"]
    assert found.controls["random_weights"]["selectivity"] < 0.1 < found.metrics["selectivity"]


def test_vectors_of_the_items_take_no_memory_beside_the_one_that_was_read():
    method, model, data = LayerProbe.tiny()
    parts = {name: of.sample(20) for name, of in method._parts(data, model).items()}
    found, _ = method._features(model, parts, None, Progress())
    assert len({of.untyped_storage().data_ptr() for of in found.values()}) == 1
    for name, of in parts.items():
        vectors = represent(model, of.words)
        places = [np.flatnonzero((vectors.sentence == s) & (vectors.word == w))[0]
                  for s, w in zip(of.sentence, of.word, strict=True)]  # fmt: skip
        torch.testing.assert_close(found[name], vectors.hidden[:, places], atol=1e-5, rtol=1e-4)
