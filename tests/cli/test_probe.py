"""``tracemend probe``: the commands that ask of attention and by prompts, from files to a finished run."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tracemend.cli.probe import probe
from tracemend.models import tiny
from tracemend.probing import PromptSearch
from tracemend.probing.made_up import tiny_treebank


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """The made-up treebank as a file."""
    path = tmp_path_factory.mktemp("trees") / "made.conllu"
    blocks, document = [], ""
    for sentence in tiny_treebank().sentences:
        lines = [f"# newdoc id = {sentence.document}"] if sentence.document != document else []
        document = sentence.document
        lines.append(f"# sent_id = {sentence.id}")
        upos, xpos, deprel = (sentence.tags[name] for name in ("upos", "xpos", "deprel"))
        for i, (word, head) in enumerate(zip(sentence.words, sentence.heads or (), strict=True)):
            cells = (i + 1, word, word, upos[i], xpos[i], "_", head + 1, deprel[i], "_", "_")
            lines.append("\t".join(map(str, cells)))
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("heads", ("--choosing-sentences", 20, "--test-sentences", 12, "--least", 3)),
        ("head-patterns", ("--pairs", 4)),
        ("attention-trace", ("--sentences", 4)),
    ],
)
def test_attention(run, folder, trees, tmp_path, name, options):
    out, options = tmp_path / "run", (*options, "--random-models", 1)
    done = run("probe", name, "--model", folder / "model", "--data", trees, *options, "--out", out, "--quiet")
    assert done.exit_code == 0, done.output
    assert "random weights" in done.stdout or "random_weights" in done.stdout
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["status"] == "complete" and result["metrics"] and result["controls"]
    assert result["config"]["random_models"] == 1
    assert len(pd.read_csv(out / "rows.csv")) and (out / "figure.svg").is_file()
    # The same command again reads what is there.
    again = run(
        "probe", name, "--model", folder / "model", "--data", trees, *options, "--out", out, "--json", "--quiet"
    )
    assert json.loads(again.stdout)["metrics"] == result["metrics"]


def test_every_probe_says_how_many_untrained_networks_stand_beside(run):
    """All but the pruning of heads, whose control is the order in which they go."""
    names = [command.name for command in probe.registered_commands]
    without = [name for name in names if "--random-models" not in run("probe", name, "--help").output]
    assert without == ["head-pruning"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coreference", "head-coreference"])
def test_pronouns_told_by_their_files_are_trained_on_others(run, folder, tmp_path, name):
    head = "ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\tURL\n"
    rows = [f"{i}\tAnn met Mary and she left.\tshe\t17\tAnn\t0\t{i % 2 == 0}\tMary\t8\t{i % 2 == 1}\tp{i // 2}\n"
            for i in range(24)]  # fmt: skip
    (tmp_path / "gap.tsv").write_text(head + "".join(rows), "utf-8")
    data = tmp_path / "winogender"
    data.mkdir()
    (data / "occupations-stats.tsv").write_text("occupation\tbls_pct_female\nnurse\t90.0\n", "utf-8")
    words = {"male": "he", "female": "she", "neutral": "they"}
    made = [f"nurse.patient.{answer}.{gender}.txt\tThe nurse told the patient that {words[gender]} was there.\n"
            for answer in (0, 1) for gender in words]  # fmt: skip
    (data / "all_sentences.tsv").write_text("sentid\tsentence\n" + "".join(made), "utf-8")
    out = tmp_path / "run"
    common = ("probe", name, "--model", folder / "model", "--quiet", "--data")
    refused = run(*common, data, "--out", tmp_path / "none")
    assert refused.exit_code == 2 and "--train" in refused.output
    done = run(*common, data, "--train", tmp_path / "gap.tsv", "--out", out)
    assert done.exit_code == 0, done.output
    result = json.loads((out / "result.json").read_text("utf-8"))
    if name == "coreference":
        assert {"accuracy_neutral", "pro_minus_anti", "male_minus_female"} <= set(result["metrics"])
        assert result["controls"]["recency"]["male_minus_female"] == 0


@pytest.mark.parametrize("task", ["relation", "evidence"])
def test_spans_are_made_of_facts_and_of_rationales(run, folder, tmp_path, task):
    if task == "relation":
        rows = [{"relation": r, "subject": f"my {r} {i}", "object": f"{r} film"} for r in "ab" for i in range(20)]
        asked = [{"relation": r, "pattern": f"[X] {w} {r} [Y]."} for r in "ab" for w in ("love", "hate", "is")]
        for name, lines in (("facts", rows), ("patterns", asked)):
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
        data = tmp_path
    else:
        text = "\n".join(f"{w} film" for w in ("great", "my", "awful", "your"))
        data = tmp_path / "documents.jsonl"
        one = json.dumps({"text": text, "rationale_token_spans": [[0, 1], [4, 5]]})
        data.write_text("\n".join([one] * 12), "utf-8")
    done = run("probe", "edge", "--model", folder / "model", "--data", data, "--task", task, "--out", tmp_path / "run",
               "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"reads {task} with accuracy" in " ".join(done.stdout.split())
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["config"]["task"] == task and "centre_of_gravity" in result["controls"]["random_weights"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["pos", "constituents", "coreference"])
def test_spans_are_made_of_a_treebank(run, folder, tmp_path, task):
    blocks, trees = [], []
    for i in range(60):
        heads = ["# newdoc id = d" + str(i // 3)] if i % 3 == 0 else []
        cells = [("my", "DET", "_"), ("film", "NOUN", "Entity=(1-object)"), ("hate", "VERB", "_"),
                 ("people", "NOUN", "Entity=(2-person)"), ("it", "PRON", "Entity=(1-object)")]  # fmt: skip
        rows = [f"{k + 1}\t{w}\t{w}\t{u}\t_\t_\t{0 if k == 2 else 3}\tdep\t_\t{m}" for k, (w, u, m) in enumerate(cells)]
        blocks.append("\n".join([*heads, *rows]) + "\n\n")
        trees.append("(ROOT (S (NP (DT my) (NN film)) (VP (VBP hate) (NP (NNS people)) (PP (PRP it)))))")
    data = tmp_path / "made.conllu"
    data.write_text("".join(blocks), "utf-8")
    common = ("probe", "edge", "--model", folder / "model", "--data", data, "--task", task, "--quiet")
    if task == "constituents":
        refused = run(*common, "--out", tmp_path / "none")
        assert refused.exit_code == 2 and "put a .ptb file beside" in refused.output
        (tmp_path / "made.ptb").write_text("\n".join(trees), "utf-8")
    done = run(*common, "--expected-layer", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "expected layer" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["config"]["task"] == task and result["config"]["expected_layer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--entities", "--task", "relation"), "give one of them"),
        (("--task", "question-type"), "leave --task out"),
        (("--entities",), "leave --task out"),
    ],
)
def test_options_of_spans_that_contradict_are_refused(run, folder, tmp_path, options, said):
    data = tmp_path / "spans.jsonl"
    data.write_text(json.dumps({"text": "my film", "targets": [{"span1": [0, 1], "label": "a"}]}), "utf-8")
    done = run("probe", "edge", "--model", folder / "model", "--data", data, *options, "--out", tmp_path / "run")
    assert done.exit_code == 2 and said in " ".join(done.output.split())


def test_labelled_texts_are_probed_by_layer(run, folder, tmp_path):
    out = tmp_path / "run"
    common = ("probe", "layers", "--model", folder / "model", "--data", folder / "clean.csv", "--no-mdl", "--quiet")
    done = run(*common, "--text", "text", "--label", "label", "--out", out)
    assert done.exit_code == 0, done.output
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["config"]["task"] == "label" and "majority" in result["controls"]
    assert run(*common, "--text", "text", "--out", out).exit_code == 2
    treebank = run(*common, "--group", "author", "--out", out)
    assert treebank.exit_code == 2 and "--group is a column of labelled texts" in " ".join(treebank.output.split())
    wrong = run(*common, "--text", "text", "--label", "label", "--task", "tense", "--out", out)
    assert wrong.exit_code == 2 and "leave --task out" in " ".join(wrong.output.split())


@pytest.mark.slow
def test_heads_are_taken_from_the_classifier_of_a_run(run, tuned, folder, tmp_path):
    out = tmp_path / "run"
    done = run("probe", "head-pruning", "--run", tuned, "--data", folder / "clean.csv", "--label", "label",
               "--texts", 20, "--draws", 1, "--out", out, "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert {"random", "most_important", "shuffled_labels", "whole"} == result["controls"].keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("probe", "layers", "--text", "text"),
        ("probe", "prompting", "--text", "text"),
        ("probe", "head-pruning"),
        ("neurons", "ablate"),
        ("neurons", "compose"),
    ],
)
def test_no_group_is_on_both_sides_of_a_division(command, run, tuned, folder, tmp_path):
    frame = pd.read_csv(folder / "clean.csv").assign(author="Ada")
    frame.to_csv(tmp_path / "mine.csv", index=False)
    of = ("--model", folder / "model") if "--text" in command else ("--run", tuned)
    common = (*command, *of, "--data", tmp_path / "mine.csv", "--label", "label", "--quiet")
    done = run(*common, "--group", "author", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "one group" in " ".join(done.output.split()), done.output


def test_prompts(run, folder, tmp_path):
    model = tiny("gpt2")
    model.network.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    frame = pd.read_csv(folder / "clean.csv")
    frame["text"] = [" ".join(text.split()[:3]) for text in frame["text"]]
    frame = frame.drop_duplicates("text")
    frame.to_csv(tmp_path / "short.csv", index=False)
    done = run("probe", "prompting", "--model", tmp_path / "model", "--data", tmp_path / "short.csv", "--text", "text",
               "--label", "label", "--template", "[X] [Y]", "--word", "safe=good", "--word", "unsafe=bad", "--shots", 1,
               "--orders", 1, "--dev-texts", 4, "--test-texts", 6, "--out", tmp_path / "run", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "zero-shot" in done.stdout and "nonsense" in done.stdout


@pytest.mark.slow
def test_prompts_are_searched_for(run, tmp_path):
    model = tiny("gpt2")
    model.network.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    _, _, data = PromptSearch.tiny()
    data_folder = tmp_path / "facts"
    data_folder.mkdir()
    pd.DataFrame(data.facts).to_json(data_folder / "facts.jsonl", orient="records", lines=True)
    patterns = [{"relation": r, "pattern": p} for r, of in data.patterns.items() for p in of]
    pd.DataFrame(patterns).to_json(data_folder / "patterns.jsonl", orient="records", lines=True)
    given = ("probe", "prompt-search", "--model", tmp_path / "model", "--data", data_folder, "--steps", 1,
             "--candidates", 1, "--vector-steps", 1, "--quiet")  # fmt: skip
    done = run(*given, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["command"] == "probe prompt-search"
    assert set(result["controls"]) == {"random_weights", "shuffled_facts", "majority"}
    assert pd.read_csv(tmp_path / "run" / "rows.csv")["search"].tolist()[-1] == "continuous"
    pd.DataFrame({"text": [f"{f.subject} is so {f.object} ." for f in data.facts]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    done = run(*given, "--corpus", tmp_path / "t.csv", "--mined", 2, "--out", tmp_path / "mined")
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(tmp_path / "mined" / "rows.csv").set_index("search")
    assert rows["prompt"]["mined"] == "[X] is so [Y]"
    wrong = run(*given, "--relation", "P0", "--out", tmp_path / "other")
    assert wrong.exit_code == 2 and "not one of: is" in wrong.output
