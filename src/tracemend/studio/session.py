"""An opened run: its lists, its evidence and its decisions as plain values, without a browser."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tracemend.data.decision import Decision
from tracemend.data.examples import read_examples
from tracemend.data.export import with_own
from tracemend.data.words import cut_at_words, texts_holding
from tracemend.errors import RunError
from tracemend.runs import read_json, read_result, write_json
from tracemend.studio.decisions import Review, Rows
from tracemend.studio.evidence import Evidence, reason
from tracemend.studio.jobs import Jobs
from tracemend.studio.versions import FOLDER, Version, version, versions
from tracemend.studio.words import Speaker

# Characters of a text in a list.
SHOWN = 260
# Words of a text that can be marked.
MARKABLE = 300


class Session:
    """A run that people look at.

    Args:
        run: the directory of a finished demo, repair, tune or detect.

    Raises:
        RunError: it is not one.

    Example:
        >>> from tracemend.studio.lists import errors
        >>> session = Session("runs/demo")
        >>> errors(session, session.current, show="wrong")["total"]
    """

    def __init__(self, run: Path | str) -> None:
        self.run = Path(run)
        versions(self.run)  # refuses what is no run
        self.splits = read_examples(self.run)
        self.result = read_result(self.run)
        self.review = Review(self.run)
        self.jobs = Jobs(self.run)
        self.speaker = Speaker(self.run)
        self._lock = threading.Lock()
        self._evidence: dict[str, tuple[tuple[bool, bool], Evidence]] = {}
        self.place = {name: {u: i for i, u in enumerate(part.uid)} for name, part in self.splits.parts.items()}
        self._words: dict[str, pd.Series] = {}
        self._own: dict[str, pd.DataFrame] = {}
        self._held: dict[str, int] = {}

    def versions(self) -> list[Version]:
        """The models of the run."""
        return versions(self.run)

    @property
    def current(self) -> str:
        """The version that people work on: the last one chosen, else the last one made here, else the original.

        The repair's own version is not it: what nobody looked at is a proposal.
        """
        path = self.run / FOLDER / "current.json"
        known = [v.name for v in versions(self.run)]
        chosen = read_json(path)["version"] if path.exists() else None
        here = [name for name in known if name.isdigit()]
        return chosen if chosen in known else (here or known)[-1 if here else 0]

    def use(self, name: str) -> None:
        """Go back, or on, to a version.

        Raises:
            RunError: there is none of that name.
        """
        write_json(self.run / FOLDER / "current.json", {"version": version(self.run, name).name})

    def evidence(self, name: str) -> Evidence:
        """What is known of a version; read anew when more was computed."""
        one = version(self.run, name)
        with self._lock:
            known = self._evidence.get(name)
            stage = (one.predicted, one.prepared)
            if known is None or known[0] != stage:
                known = (stage, Evidence(one, self.splits))
                self._evidence[name] = known
            return known[1]

    def before(self, one: Version, against: str | None = None) -> Evidence | None:
        """What a version is compared with in the list of errors: its parent unless another is named."""
        name = against or one.parent
        if name is None or name == one.name:
            return None
        found = self.evidence(name)
        return found if found.version.predicted else None

    def error(self, name: str, uid: str) -> dict[str, Any]:
        """One validation example with the training examples that push towards its label and away from it.

        Raises:
            RunError: no such example.
        """
        q = self._at("validation", uid)
        found = self.evidence(name)
        example = self.splits.validation.frame.iloc[q]
        behind = found.behind(q)
        rows = self.review.rows()
        sides: dict[str, Any] = {"towards": [], "away": [], "random": None}
        if behind is not None:
            sides = {
                **behind,
                **{
                    side: [{**self.train_row(found, i, rows), "influence": value} for i, value in behind[side]]
                    for side in ("towards", "away")
                },
            }
        p = found.p["validation"][q]
        return {
            **self._text(example),
            "label": example["label"],
            "predicted": self.splits.labels[int(p.argmax())],
            "probabilities": dict(zip(self.splits.labels, p.round(4).tolist(), strict=True)),
            "traced": behind is not None,
            "prepared": found.version.prepared,
            **sides,
            "words": [_word(d) for d in rows.words() if d.uid == uid or d.scope == "all"],
            "seen": rows.touched.get(uid, 0),
        }

    def example(self, name: str, uid: str) -> dict[str, Any]:
        """One training example with all that speaks for and against its label.

        Raises:
            RunError: no such example.
        """
        i = self._at("train", uid)
        found = self.evidence(name)
        rows = self.review.rows()
        row = self.train_row(found, i, rows)
        table, labels, given = found.suspects, self.splits.labels, self.splits.train.frame
        row |= {**self._text(given.iloc[i]), "truth": None, "caused": [], "near": [], "twins": [], "opinion": None}
        row["probabilities"] = dict(zip(labels, found.p["train"][i].round(4).tolist(), strict=True))
        if table is not None:
            facts = table.iloc[i]
            opinion = [facts[f"opinion_{k}"] for k in range(len(labels))]
            if np.isfinite(opinion).all():
                row["opinion"] = dict(zip(labels, np.round(opinion, 4).tolist(), strict=True))
            row["caused"] = [self._caused(found, q, value) for q, value in found.caused(i)]
            row["near"] = [
                {**self.train_row(found, int(j), rows), "similarity": float(c)}
                for j, c in zip(facts["near"], facts["near_cosine"], strict=True)
                if j >= 0
            ]
            row["twins"] = [self.train_row(found, int(j), rows) for j in facts["twins"]]
        row["own"] = _own(given.iloc[[i]])
        row["words"] = [_word(d) for d in rows.words() if d.uid == uid or d.scope == "all"]
        row["comments"] = [told(d) for d in rows.notes(uid) if d.kind == "comment"]
        row["history"] = [told(d) for d in rows.all if d.uid == uid]
        return row

    def train_rows(self, name: str, uids: Sequence[str]) -> list[dict[str, Any]]:
        """Training examples as lists show them: what a page asks for after a decision."""
        found, rows = self.evidence(name), self.review.rows()
        return [self.train_row(found, self._at("train", uid), rows) for uid in uids]

    def label_now(self, uid: str, rows: Rows) -> str:
        """The label of a training example with people's decisions in force."""
        d = rows.people.get(uid)
        return d.new if d is not None and d.kind == "label" and d.new is not None else self.given(uid)

    def has(self, part: str, uid: str) -> bool:
        """Whether an example is in a part of the run."""
        return uid in self.place[part]

    def given(self, uid: str) -> str:
        """The label that a training example came with."""
        return str(self.splits.train.frame["label"].iloc[self._at("train", uid)])

    def text_of(self, uid: str) -> dict[str, Any]:
        """The whole text of a training or validation example."""
        part = "train" if self.has("train", uid) else "validation"
        return self._text(self.splits.parts[part].frame.iloc[self._at(part, uid)])

    def suggestion(self, name: str, uid: str) -> tuple[str, str]:
        """The label that would be given, and the reason.

        Raises:
            RunError: the version is not prepared, or the label is not suspect.
        """
        found = self.evidence(name)
        if found.suspects is None:
            raise RunError(f"{found.version.title} is not prepared yet, so nothing is suggested; decide by label.")
        i = self._at("train", uid)
        row = found.suspects.iloc[i]
        if not row["eligible"]:
            raise RunError(f"no other label is likelier for {uid}, so nothing is suggested; decide by label.")
        return str(row["suggestion"]), reason(found, i, str(row["label_then"]), str(row["suggestion"]))

    def _at(self, part: str, uid: str) -> int:
        if uid not in self.place[part]:
            raise RunError(f"no {part} example of the run has the uid {uid[:40]!r}; look at the list again.")
        return self.place[part][uid]

    def lower(self, part: str) -> pd.Series:
        """Texts of a part in lower case, for words to be looked for in."""
        if part not in self._words:
            frame = self.splits.parts[part].frame
            self._words[part] = (frame["text"] + "\n" + frame["reply"].fillna("")).str.lower()
        return self._words[part]

    def own(self, part: str) -> pd.DataFrame:
        """What the columns of one's own file say of a part's examples, and where each stood in it [n]."""
        if part not in self._own:
            frame = self.splits.parts[part].frame
            self._own[part] = with_own(frame[["uid"]], frame).drop(columns="uid")
        return self._own[part]

    def held(self, word: str) -> int:
        """In how many training texts a word stands."""
        if word not in self._held:
            texts = self.lower("train")
            self._held[word] = texts_holding(texts[texts.str.contains(word.lower(), regex=False)], word)
        return self._held[word]

    def marks(self, rows: Rows) -> int:
        """How many marks on words a training would use: none on a validation text, none on a word of no text."""
        return sum(self.held(str(d.new)) > 0 if d.scope == "all" else self.has("train", d.uid) for d in rows.words())

    def error_row(self, i: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """A validation example as lists show it."""
        example = self.splits.validation.frame.iloc[i]
        return {
            **self.short(example),
            "label": row["label"],
            "predicted": row["predicted"],
            "confidence": round(float(row["confidence"]), 4),
            "change": None if np.isnan(row["change"]) else round(float(row["change"]), 4),
            "wrong": bool(row["wrong"]),
            "flipped": bool(row["flipped"]),
        }

    def train_row(self, found: Evidence, i: int, rows: Rows) -> dict[str, Any]:
        """A training example as lists show it, with what was decided on it."""
        example = self.splits.train.frame.iloc[i]
        uid = str(example["uid"])
        d, proposed = rows.people.get(uid), rows.machine.get(uid)
        shown = {
            **self.short(example),
            "given": example["label"],
            "label": self.label_now(uid, rows),
            "decision": None if d is None else told(d),
            "proposed": None if proposed is None else told(proposed),
            "seen": rows.touched.get(uid, 0),
            "suggestion": None,
            "reason": "",
            "opinion_of_label": None,
            "nearest": None,
            "copies": 0,
        }
        if found.suspects is not None:
            facts = found.suspects.iloc[i]
            opinion = facts[f"opinion_{self.splits.labels.index(str(example['label']))}"]
            shown |= {
                "suspicion": None if np.isnan(facts["suspicion"]) else round(float(facts["suspicion"]), 3),
                "errors": int(found.votes[i]),
                "nearest": _nearest(found.suspects, facts),
                "copies": len(facts["twins"]),
                "opinion_of_label": None if np.isnan(opinion) else round(float(opinion), 3),
            }
            # Of a label that stands, another one is not suggested.
            if facts["eligible"]:
                suggestion = str(facts["suggestion"])
                shown["suggestion"] = suggestion
                shown["reason"] = reason(found, i, str(facts["label_then"]), suggestion)
        return shown

    def _caused(self, found: Evidence, q: int, value: float) -> dict[str, Any]:
        example = self.splits.validation.frame.iloc[q]
        predicted = self.splits.labels[int(found.predicted[q])]
        return {**self.short(example), "label": example["label"], "predicted": predicted, "influence": value}

    def short(self, example: Any) -> dict[str, Any]:
        """An example's id and the beginning of its texts."""
        reply = example["reply"]
        return {
            "uid": example["uid"],
            "text": cut(example["text"]),
            "reply": None if reply is None else cut(reply),
        }

    def _text(self, example: Any) -> dict[str, Any]:
        texts = {name: example[name] for name in ("text", "reply")}
        # Where the words are that can be marked: the same ones that a training looks for.
        pieces = {name: None if text is None else cut_at_words(text, MARKABLE) for name, text in texts.items()}
        return {"uid": example["uid"], **texts, "pieces": pieces}


def _nearest(table: pd.DataFrame, facts: pd.Series) -> dict[str, Any] | None:
    """The most similar training example with another label: which label, and how similar."""
    j, cosine = int(facts["near"][0]), float(facts["near_cosine"][0])
    return None if j < 0 else {"label": str(table["label_then"].iloc[j]), "similarity": round(cosine, 3)}


def _own(example: pd.DataFrame) -> list[list[str]]:
    """Where an example of a table of one row stood in its file, its author, and what its other columns say."""
    cells = with_own(example[["uid", "group"]], example).iloc[0].drop("uid")
    return [[str(name), cut(str(cell))] for name, cell in cells.items() if not pd.isna(cell)]


def cut(text: str) -> str:
    """The beginning of a text, as long as lists show it."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def told(d: Decision) -> dict[str, Any]:
    """A decision as JSON values."""
    return {
        "version": d.version,
        "uid": d.uid,
        "kind": d.kind,
        "old": d.old,
        "new": d.new,
        "scope": d.scope,
        "actor": d.actor,
        "time": d.time,
        "undoes": d.undoes,
        "reason": str(d.evidence.get("reason") or ""),
        "matters": d.evidence.get("matters"),
    }


def _word(d: Decision) -> dict[str, Any]:
    return {
        "row": d.version,
        "word": d.new,
        "scope": d.scope,
        "matters": bool(d.evidence.get("matters")),
        "actor": d.actor,
    }
