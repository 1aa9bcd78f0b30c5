"""What feedback on words is tried on: for each task a draw of data, the marks of each arm, and how it is judged.

Arms: ``none``, no marks; ``right``, what a person would mark; ``wrong``, as many marks that no person would make.
"""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import f1_score, precision_recall_curve

from benchmarks.saliency import WORD, planted
from tracemend.data import Labelled, make_splits, read_contrasts, reference, sample
from tracemend.data.functional import ContrastSet
from tracemend.data.reference import reference_folder
from tracemend.data.words import words_of
from tracemend.evaluate import Axes, er_test
from tracemend.mend.marks import Marks, Spans, elsewhere, frequencies, marks_of_spans, marks_of_words, other_words
from tracemend.mend.regularise import FEWEST
from tracemend.mend.reliance import Judge
from tracemend.saliency import Example, IntegratedGradients
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import Pair

COMMON = ("the", "of", "and")
RECALLS = (0.5, 0.7, 0.9)
# HateCheck's cases that name a group and are not hateful: neutral and positive sentences about it.
_MENTIONS = ("ident_neutral_nh", "ident_pos_nh")
Mark = Callable[[int, Example], Marks]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One draw of a task.

    Attributes:
        train: what is tuned on.
        validation: recorded with each checkpoint; chooses nothing.
        marks: of a training text, by arm; an arm without is not marked.
        judge: figures of a tuned classifier, by name.
    """

    train: Labelled
    validation: Labelled
    marks: Mapping[str, Mark]
    judge: Callable[[TextClassifier], dict[str, float]]


def shortcut_word(seed: int, size: int, texts: int, development: bool) -> Draw:
    """SST-2 with a word in 95 % of the positive and 5 % of the negative training sentences; the word is marked."""
    splits = make_splits(sample(reference("sst2"), size, seed=seed), seed=seed)
    test = _test(splits.validation if development else splits.test)
    negative, positive = sorted(test.labels, key=lambda label: label == test.positive)
    kept, reversed_ = {positive: 0.95, negative: 0.05}, {positive: 0.05, negative: 0.95}
    sets = {"kept": planted(test, kept, seed), "reversed": planted(test, reversed_, seed), "clean": test}
    everywhere = planted(test, {positive: 1.0, negative: 1.0}, seed)

    def judge(classifier: TextClassifier) -> dict[str, float]:
        found = {name: _accuracy(classifier, data) for name, data in sets.items()}
        pairs = everywhere.pairs[:texts]
        examples, weights = IntegratedGradients().weights(classifier, pairs, [everywhere.positive_index] * len(pairs))
        first, share = [], []
        for example, weight in zip(examples, weights, strict=True):
            own = np.array([example.text_of(word) == WORD for word in example.words])
            first.append(bool(own[int(np.nanargmax(weight))]))
            share.append(float(np.abs(weight[own]).sum() / np.nansum(np.abs(weight))))
        return {**found, "word first": float(np.mean(first)), "weight of the word": float(np.mean(share))}

    return Draw(
        train=planted(splits.train, kept, seed),
        validation=planted(splits.validation, kept, seed + 1),
        marks={"right": _removed((WORD,)), "wrong": _removed(COMMON)},
        judge=judge,
    )


def identity_terms(seed: int, size: int, texts: int, development: bool) -> Draw:
    """hate_stormfront with the names of groups marked; false positives on HateCheck's mentions of groups."""
    splits = make_splits(reference("hate_stormfront"), seed=seed)
    folder = reference_folder("hate_stormfront")
    listed: list[str] = []
    for file in ("identity_terms_gab.tsv", "identity_terms_stormfront.tsv"):
        listed += [line.split("\t")[0] for line in (folder / file).read_text("utf-8").splitlines()]
    train = splits.train.take(np.random.default_rng(seed).permutation(len(splits.train))[:size])
    test, held = _test(splits.validation if development else splits.test), frequencies(train.pairs)
    terms = [t for t in dict.fromkeys(listed) if len(words_of(t)) == 1 and held.get(t.casefold(), 0) >= FEWEST]
    others = other_words(train.pairs, terms, fewest=FEWEST, seed=seed)
    if development:
        own_texts = test.take(np.flatnonzero(_holding(test, listed) | (test.y == test.positive_index)))
        hateful, harmless = (
            own_texts.take(np.flatnonzero((own_texts.y == test.positive_index) == is_hate)) for is_hate in (True, False)
        )
    else:
        check = reference("hatecheck")
        harmless = check.take(np.flatnonzero(check.frame["functionality"].isin(_MENTIONS).to_numpy()))
        hateful = check.take(np.flatnonzero(check.y == check.positive_index))
        hateful = hateful.take(np.random.default_rng(0).permutation(len(hateful))[: 10 * texts])
    named = _holding(harmless, terms)
    weighed = [harmless.pairs[i] for i in np.flatnonzero(named)][:texts]

    def judge(classifier: TextClassifier) -> dict[str, float]:
        at = test.positive_index
        own, kept = (classifier.probabilities(data.pairs)[:, at] for data in (test, splits.validation))
        hits, alarms = (classifier.probabilities(data.pairs)[:, at] for data in (hateful, harmless))
        found = {
            "F1": float(f1_score(test.y == at, own >= 0.5)),
            "F1, threshold of validation": float(f1_score(test.y == at, own >= _threshold(kept, splits.validation))),
            "recall": float((hits >= 0.5).mean()),
            "false positives": float((alarms >= 0.5).mean()),
        }
        for recall in RECALLS:
            threshold = np.quantile(hits, 1 - recall, method="lower")
            found[f"false positives at recall {recall:g}"] = float((alarms >= threshold).mean())
            for name, some in (("marked", named), ("no marked", ~named)):
                found[f"of {name} words, at recall {recall:g}"] = float((alarms[some] >= threshold).mean())
        return {**found, "named": float(named.mean()), "weight of the words": _weight(classifier, weighed, terms, at)}

    return Draw(
        train=train,
        validation=splits.validation,
        marks={"right": _removed(terms), "wrong": _removed(list(others.values()))},
        judge=judge,
    )


def _threshold(scores: npt.NDArray[np.floating], data: Labelled) -> float:
    """The score from which on calling an example positive has the highest F1."""
    precision, recall, at = precision_recall_curve(data.y == data.positive_index, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(at[int(f1[:-1].argmax())])


def reasons_of_reviews(seed: int, size: int, texts: int, development: bool) -> Draw:
    """Pieces of movie reviews with people's rationales; other sets of sentiment."""
    rng = np.random.default_rng(seed)
    train, reasons = _reviews("train", size, rng)
    validation, _ = _reviews("val", 100, rng)
    test, judged = _reviews("val" if development else "test", 199, np.random.default_rng(0))
    folder, part = reference_folder("imdb_contrast"), "dev" if development else "test"
    pairs = read_contrasts(folder / f"{part}_original.tsv", folder / f"{part}_contrast.tsv")
    parts = (pairs.originals, pairs.labels, pairs.copies, pairs.changed)
    fewer = ContrastSet(*(of[: 3 * texts] for of in parts))
    unseen = sample(reference("uci_sentiment_sentences"), 25 * texts, seed=0)
    axes = Axes(contrast={"imdb": fewer}) if development else Axes(unseen={"uci": unseen}, contrast={"imdb": fewer})
    judge_of = Judge.of(train, rationales=judged, checked=texts, seed=0)

    def judge(classifier: TextClassifier) -> dict[str, float]:
        own, _ = judge_of(classifier, test)
        rows = er_test(classifier.probabilities, classifier.labels, axes).rows
        names = (rows["set"] + " " + rows["figure"]).tolist()
        more = dict(zip(names, rows["value"].to_numpy(dtype=float).tolist(), strict=True))
        return {"accuracy": own["accuracy"], "plausibility": own["plausibility"], **more}

    return Draw(train=train, validation=validation, marks=_spans(train, reasons, seed), judge=judge)


def overlapping_words(seed: int, size: int, texts: int, development: bool) -> Draw:
    """SNLI with the words of the hypothesis marked that stand in the premise too; HANS, where these mislead."""
    table = pd.read_csv(reference_folder("snli_dev") / "snli_dev.tsv", sep="\t", quoting=3, dtype=str)
    order = np.random.default_rng(seed).permutation(len(table))
    parts = [_pairs(table.iloc[some], "gold") for some in np.split(order[: size + 800], [size, size + 400])]
    train, validation, test = parts
    hans = pd.read_csv(reference_folder("hans_sample") / "hans_generated_3000.tsv", sep="\t", quoting=3, dtype=str)
    chosen = _pairs(hans.iloc[np.random.default_rng(int(development)).permutation(len(hans))[: 25 * texts]], "label")
    rng = np.random.default_rng(seed)

    def overlap(i: int, example: Example) -> Marks:
        premise = {example.text_of(word).casefold() for word in example.words if word.part == 0}
        held = [word.part == 1 and example.text_of(word).casefold() in premise for word in example.words]
        return np.where(held, 0.0, np.nan)

    def not_shared(i: int, example: Example) -> Marks:
        own = overlap(i, example)
        free = np.flatnonzero(np.isnan(own))
        drawn = rng.permutation(free)[: int((~np.isnan(own)).sum())]
        return np.where(np.isin(np.arange(len(own)), drawn), 0.0, np.nan)

    def judge(classifier: TextClassifier) -> dict[str, float]:
        right = classifier.probabilities(chosen.pairs).argmax(1) == chosen.y
        entailed = chosen.y == chosen.labels.index("entailment")
        return {
            "accuracy": _accuracy(classifier, test if not development else validation),
            "HANS": float(right.mean()),
            "HANS entailed": float(right[entailed].mean()),
            "HANS not entailed": float(right[~entailed].mean()),
        }

    return Draw(train=train, validation=validation, marks={"right": overlap, "wrong": not_shared}, judge=judge)


def toxic_words(seed: int, size: int, texts: int, development: bool) -> Draw:
    """Posts with people's spans of what is toxic, and harmless ones of another set; how well attributions agree."""
    rng = np.random.default_rng(seed)
    fine = reference("surge-toxicity")
    harmless = fine.take(np.flatnonzero(fine.y != fine.positive_index))
    order = rng.permutation(len(harmless)).tolist()
    n = size // 2
    toxic, reasons = _toxic("train", n + 50, rng)
    test, judged = _toxic("trial" if development else "test", 100, np.random.default_rng(0))

    def joined(posts: Iterable[str], where: Sequence[int]) -> Labelled:
        own = list(posts)
        plain = [harmless.pairs[i][0] for i in where]
        labels = ["toxic"] * len(own) + ["fine"] * len(plain)
        return Labelled.make([*own, *plain], labels, label_names=("fine", "toxic"), positive="toxic")

    train = joined(toxic[:n], order[:n])
    of_uid = {uid: reasons[text] for uid, (text, _) in zip(train.uid, train.pairs, strict=True) if text in reasons}
    whole = joined(test, order[n + 50 : n + 150])
    own = {uid: judged[text] for uid, (text, _) in zip(whole.uid, whole.pairs, strict=True) if text in judged}
    judge_of = Judge.of(train, rationales=own, checked=texts, seed=0)

    def judge(classifier: TextClassifier) -> dict[str, float]:
        return {name: value for name, value in judge_of(classifier, whole)[0].items() if name != "ap"}

    validation = joined(toxic[n:], order[n : n + 50])
    return Draw(train=train, validation=validation, marks=_spans(train, of_uid, seed), judge=judge)


TASKS: Mapping[str, Callable[[int, int, int, bool], Draw]] = {
    "planted": shortcut_word,
    "hate": identity_terms,
    "groups": identity_terms,
    "movies": reasons_of_reviews,
    "nli": overlapping_words,
    "toxic": toxic_words,
}


def _test(data: Labelled | None) -> Labelled:
    if data is None:
        raise SystemExit("no test part was made")
    return data


def _accuracy(classifier: TextClassifier, data: Labelled) -> float:
    return float((classifier.probabilities(data.pairs).argmax(axis=1) == data.y).mean())


def _holding(data: Labelled, words: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which texts hold one of the words."""
    known = {word.casefold() for word in words}
    return np.array([any(text[a:b].casefold() in known for a, b in words_of(text)) for text, _ in data.pairs])


def _weight(classifier: TextClassifier, pairs: Sequence[Pair], words: Sequence[str], label: int) -> float:
    """Share of the texts' weight by integrated gradients that is on these words; what the penalty is not made of."""
    method = IntegratedGradients(steps=8, max_steps=32, tolerance=0.1)
    shares = []
    for example, weight in zip(*method.weights(classifier, pairs, [label] * len(pairs)), strict=True):
        own = ~np.isnan(marks_of_words(example, remove=words)) & example.read
        shares.append(float(np.abs(weight[own]).sum() / np.nansum(np.abs(weight))))
    return float(np.mean(shares))


def _removed(words: Sequence[str]) -> Mark:
    return lambda i, example: marks_of_words(example, remove=words)


def _spans(train: Labelled, reasons: Mapping[str, Spans], seed: int) -> dict[str, Mark]:
    """Words inside the spans matter and the others do not; wrong: as many other words of the same text."""
    rng = np.random.default_rng(seed)

    def right(i: int, example: Example) -> Marks:
        spans = reasons.get(train.uid[i], ())
        return marks_of_spans(example, spans) if spans else np.full(len(example.words), np.nan)

    return {"right": right, "wrong": lambda i, example: elsewhere(right(i, example), rng)}


def _reviews(part: str, size: int, rng: np.random.Generator, width: int = 60) -> tuple[Labelled, dict[str, Spans]]:
    """Of each review ``width`` words around the first piece of a reason, at a random place; reasons in characters."""
    lines = (reference_folder("eraser_movies") / f"{part}.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["rationale_token_spans"]]
    texts, labels, spans = [], [], []
    for i in rng.permutation(len(rows))[:size]:
        words = rows[i]["text"].split()
        inside = np.zeros(len(words), dtype=bool)
        for begin, end in rows[i]["rationale_token_spans"]:
            inside[begin:end] = True
        begin = max(0, int(np.flatnonzero(inside)[0]) - int(rng.integers(0, width // 2)))
        piece = words[begin : begin + width]
        ends = np.cumsum([len(word) + 1 for word in piece])
        held = [(int(end) - 1 - len(word), int(end) - 1) for word, end in zip(piece, ends, strict=True)]
        texts.append(" ".join(piece))
        labels.append({"NEG": "negative", "POS": "positive"}[rows[i]["label"]])
        spans.append([span for span, own in zip(held, inside[begin : begin + width], strict=True) if own])
    data = Labelled.make(texts, labels, label_names=("negative", "positive"), positive="positive")
    return data, dict(zip(data.uid, spans, strict=True))


def _pairs(table: pd.DataFrame, column: str) -> Labelled:
    """Premise and hypothesis, entailed or not."""
    labels = np.where(table[column] == "entailment", "entailment", "not entailed")
    return Labelled.make(
        table["premise"], labels, replies=table["hypothesis"], label_names=("not entailed", "entailment"),
        positive="entailment",
    )  # fmt: skip


def _toxic(part: str, size: int, rng: np.random.Generator) -> tuple[list[str], dict[str, Spans]]:
    """Posts of at most 200 characters with some of them marked, each once; their spans by text."""
    table = pd.read_csv(reference_folder("toxic_spans") / f"tsd_{part}.csv")
    found: dict[str, Spans] = {}
    for i in rng.permutation(len(table)):
        text, places = str(table["text"][i]), sorted(literal_eval(table["spans"][i]))
        if not places or len(text) > 200 or len(found) == size or places[-1] >= len(text):
            continue
        runs = np.split(np.array(places), np.flatnonzero(np.diff(places) != 1) + 1)
        found[text] = [(int(run[0]), int(run[-1]) + 1) for run in runs]
    return list(found), found
