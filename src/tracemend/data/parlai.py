"""Readers for the published files of ParlAI's dialogue safety tasks, which users bring themselves.

Single-turn and multi-turn safety: Dinan et al. 2019, "Build it break it fix it for dialogue safety"
(arXiv 1908.06083). Bot-Adversarial Dialogue (BAD): Xu et al. 2021 (NAACL 2021).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tracemend.data.schema import Labelled
from tracemend.errors import DataError, did_you_mean

OK, NOT_OK = "__ok__", "__notok__"
FOLDS = ("train", "valid", "test")

# sha256 of the files as published.
_SINGLE_TURN = "f3a46265aa639cfa4b55d2be4dca4be1c596acb5e8f94d7e0041e1a54cedd4cd"
_MULTI_TURN = "e3e577f456d63d51eb7b5f98ffd251ad695476f186d422fa8de1a177742fa7b6"


class Published(NamedTuple):
    """Examples of a published file.

    Attributes:
        data: labels ``__ok__`` and ``__notok__``, the latter positive.
        notes: sentences for the report: whether the file is the published one.
    """

    data: Labelled
    notes: tuple[str, ...]


def single_turn_safety(
    path: Path | str,
    *,
    collection: str = "standard",
    fold: str = "train",
    round: int = 1,
    round_only: bool = False,
) -> Published:
    """Read ``single_turn_safety.json``: collection, fold, round, "good" or "bad", then items of text and labels.

    Args:
        path: the file.
        collection: ``standard`` or ``adversarial``.
        fold: ``train``, ``valid`` or ``test``.
        round: 1, 2 or 3.
        round_only: this round alone; otherwise all rounds up to it, as in ParlAI.

    Raises:
        DataError: no such file, or another layout.
    """
    path = Path(path)
    dump, raw = _load(path)
    rounds = _step(_step(dump, collection, path), fold, path)
    items: list[Any] = []
    for number in [round] if round_only else range(1, round + 1):
        both = _step(rounds, str(number), path)
        for quality in ("good", "bad"):
            items += _step(both, quality, path)
    texts, labels = _texts_and_labels(items, path)
    return Published(_labelled(texts, labels, path), _published(path, raw, _SINGLE_TURN))


def multi_turn_safety(path: Path | str, *, fold: str = "train") -> Published:
    """Read ``multi_turn_safety.json``: fold, then items whose text is the dialogue, one turn a line, the last judged.

    Text is the context and reply the judged turn; a dialogue of one turn has no reply.

    Raises:
        DataError: no such file, or another layout.
    """
    path = Path(path)
    dump, raw = _load(path)
    texts, labels = _texts_and_labels(_step(dump, fold, path), path)
    return Published(_dialogues(texts, labels, None, None, path), _published(path, raw, _MULTI_TURN))


def bot_adversarial_dialogue(path: Path | str, *, speaker: str = "all", turns: int | None = 4) -> Published:
    """Read a fold (``train.txt``, ``valid.txt``, ``test.txt``) of Bot-Adversarial Dialogue.

    Each line is one example in ParlAI's text format, fields as ``name:value`` between tabs (``text``, ``labels``,
    ``speaker_to_eval`` and others), line breaks in a value written as backslash n; or one JSON object a line with
    the same names. ``text`` holds the dialogue so far; its last turn is judged.

    Text is the context and reply the judged turn; the first turn of a dialogue has no reply. The group is the
    dialogue: its id where there is one, else the run of lines that each continue the one before.

    Args:
        path: the file.
        speaker: whose turns are judged: ``human``, ``bot`` or ``all``.
        turns: how many last turns to keep, the judged one among them; None for all.

    Raises:
        DataError: no such file, another layout, no line of this speaker, or ``turns`` under 1.
    """
    path = Path(path)
    if speaker not in ("all", "human", "bot"):
        raise DataError(f"speaker {speaker!r} is {did_you_mean(speaker, ('all', 'human', 'bot'))}")
    if turns is not None and turns < 1:
        raise DataError(f"turns is {turns}; at least the judged turn must stay, so give 1 or more, or None for all.")
    items = [
        (number, _fields(line, number, path)) for number, line in enumerate(_text(path).split("\n"), 1) if line.strip()
    ]
    texts, labels = _texts_and_labels([item for _, item in items], path)
    groups = _conversations(texts, [item for _, item in items])
    rows = [row for row, (_, item) in enumerate(items) if speaker in ("all", item.get("speaker_to_eval"))]
    if not rows:
        found = sorted({str(item.get("speaker_to_eval")) for _, item in items})
        raise DataError(f"{path} has no line with speaker_to_eval {speaker!r}; found: {', '.join(found)}.")
    data = _dialogues([texts[r] for r in rows], [labels[r] for r in rows], [groups[r] for r in rows], turns, path)
    # The published hash is of the archive, so an unpacked fold cannot be compared with it.
    return Published(data, (f"The content of {path.name} could not be compared with the published archive.",))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"there is no file {path}; ParlAI's data must be brought by you (see docs).") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (position {error.start}); fetch the published file again.") from None


def _load(path: Path) -> tuple[Any, str]:
    text = _text(path)
    try:
        return json.loads(text), hashlib.sha256(path.read_bytes()).hexdigest()
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON ({error}); fetch the published file again.") from None


def _published(path: Path, found: str, expected: str) -> tuple[str, ...]:
    if found == expected:
        return (f"{path.name} is the published file (sha256 {expected[:12]}...).",)
    return (
        f"{path.name} is not the published file: its sha256 is {found[:12]}..., published is {expected[:12]}... "
        "Figures cannot be compared with papers.",
    )


def _step(value: Any, key: str, path: Path) -> Any:
    if not isinstance(value, Mapping):
        raise DataError(f"{path} has another layout: expected an object that holds {key!r}, not {_kind(value)}.")
    if key not in value:
        raise DataError(f"{path}: {key!r} is {did_you_mean(key, value)}")
    return value[key]


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _texts_and_labels(items: Any, path: Path) -> tuple[list[str], list[str]]:
    if not isinstance(items, list) or not items:
        raise DataError(f"{path} has another layout: expected a list of items with text and labels.")
    texts, labels = [], []
    for number, item in enumerate(items):
        text = _step(item, "text", path)
        label = _step(item, "labels", path)
        label = label[0] if isinstance(label, list) and len(label) == 1 else label
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: item {number} has no text.")
        if label not in (OK, NOT_OK):
            raise DataError(f"{path}: the label {label!r} of item {number} is {did_you_mean(str(label), (OK, NOT_OK))}")
        texts.append(text)
        labels.append(str(label))
    return texts, labels


def _labelled(texts: list[str], labels: list[str], path: Path, **columns: Any) -> Labelled:
    if len(set(labels)) < 2:
        raise DataError(f"all {len(labels)} labels chosen from {path} are {labels[0]!r}; both labels are needed.")
    return Labelled.make(texts, labels, label_names=(NOT_OK, OK), positive=NOT_OK, **columns)


def _dialogues(
    texts: list[str], labels: list[str], groups: list[str] | None, turns: int | None, path: Path
) -> Labelled:
    contexts: list[str] = []
    replies: list[str | None] = []
    for text in texts:
        said = [turn for turn in text.split("\n") if turn.strip()]
        said = said if turns is None else said[-turns:]
        contexts.append("\n".join(said[:-1]) or said[-1])
        replies.append(said[-1] if len(said) > 1 else None)
    return _labelled(contexts, labels, path, replies=replies, groups=groups)


def _fields(line: str, number: int, path: Path) -> Mapping[str, Any]:
    """One line of ParlAI's text format, or of JSON."""
    if line.startswith("{"):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error}).") from None
        return value if isinstance(value, dict) else {}
    fields = dict(part.split(":", 1) for part in line.rstrip("\r").split("\t") if ":" in part)
    if "text" not in fields or "labels" not in fields:
        raise DataError(
            f"{path}: line {number} has no text or no labels; expected text:...<tab>labels:{OK}<tab>... in each line."
        )
    fields["text"] = fields["text"].replace("\\t", "\t").replace("\\n", "\n").replace("__PIPE__", "|")
    return fields


def _conversations(texts: list[str], items: Iterable[Mapping[str, Any]]) -> list[str]:
    groups: list[str] = []
    before, run = "", -1
    for text, item in zip(texts, items, strict=True):
        if not before or not text.startswith(before + "\n"):
            run += 1
        before = text
        named = next((str(item[key]) for key in ("dialogue_id", "convo_id", "conv_id") if key in item), None)
        groups.append(named if named is not None else f"dialogue-{run}")
    return groups
