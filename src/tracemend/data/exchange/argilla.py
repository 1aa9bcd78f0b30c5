"""Suspects as Argilla records, and the responses back (Argilla 2.x, the dictionaries of ``rg.Record.to_dict``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemend.data.exchange.answers import Answer, objects
from tracemend.data.exchange.suspects import Suspects, number, share
from tracemend.errors import DataError

QUESTION = "label"
COMMENT = "comment"
_SUBMITTED = (None, "submitted")
_REMEDY = "write it again with dataset.records(with_responses=True).to_json(...), and give the file unchanged."


def to_argilla(suspects: Suspects) -> list[dict[str, Any]]:
    """One record an example, for ``dataset.records.from_json``.

    The record's ``id`` is the uid. Fields: ``text``, ``reply`` where there is one, ``evidence``. The suggestion answers
    the question ``label``; its score is the probability that the given label is wrong, where there is one (Argilla
    takes scores from 0 to 1 only), and its agent the detector. Metadata: ``given``, ``rank``, ``suspicion`` (the
    detector's own score), and the cells of further columns as text.

    Example:
        >>> to_argilla(suspects)[0]["suggestions"]["label"]
        {'value': 'unsafe', 'score': 0.93, 'agent': 'trace.out-of-fold-loss'}
    """
    return [_record(row, rank, suspects) for rank, row in enumerate(suspects, start=1)]


def settings(suspects: Suspects) -> dict[str, Any]:
    """What the dataset's settings must have: names of fields, answers of the question, metadata."""
    fields = ["text", *(["reply"] if suspects.has_replies else []), "evidence"]
    return {"fields": fields, "question": QUESTION, "labels": list(suspects.answers), "comment": COMMENT}


def from_argilla(records: Any, *, where: str = "the file") -> list[Answer]:
    """The responses of reviewed records, for :func:`tracemend.data.exchange.settle`.

    Records without a response are skipped; so are drafts and discarded responses, where the file tells them apart.

    Args:
        records: what ``dataset.records.to_json`` wrote, as JSON values.
        where: names the file in messages.

    Raises:
        DataError: it is no list of records, a record has no id, or its responses are damaged.
    """
    if not isinstance(records, list) or not all(isinstance(r, Mapping) and "fields" in r for r in records):
        raise DataError(
            f"{where} holds no Argilla records; write them with dataset.records(with_responses=True).to_json(...)."
        )
    return [answer for at, record in enumerate(records) for answer in _answers(record, f"record {at} of {where}")]


def _record(row: Mapping[str, Any], rank: int, suspects: Suspects) -> dict[str, Any]:
    fields = {"text": row["text"]}
    if suspects.has_replies:
        fields["reply"] = row["reply"] or ""
    fields["evidence"] = row["evidence"] or ""
    suggestion = {"value": row["suggested"], "score": share(row["probability"]), "agent": suspects.agent}
    metadata: dict[str, Any] = {name: str(cell) for name, cell in row["own"].items()}
    metadata |= {"given": row["label"], "rank": rank}
    if row["score"] is not None:
        metadata["suspicion"] = number(row["score"])
    return {
        "id": row["uid"],
        "fields": fields,
        "metadata": metadata,
        "suggestions": {} if row["suggested"] is None else {QUESTION: suggestion},
        "responses": {},
        "vectors": {},
    }


def _answers(record: Mapping[str, Any], where: str) -> list[Answer]:
    uid = record.get("id")
    if not isinstance(uid, str) or not uid:
        raise DataError(f"{where} has no id; the id is the example's uid and must be kept.")
    responses = record.get("responses") or {}
    if not isinstance(responses, Mapping):
        raise DataError(f"the responses of {where} are {responses!r}, not lists of responses by question; {_REMEDY}")
    given = {
        question: objects(responses.get(question, []), f"the responses to {question!r} of {where}", _REMEDY)
        for question in (QUESTION, COMMENT)
    }
    said = {_user(one): str(one.get("value") or "") for one in given[COMMENT]}
    found = []
    for one in given[QUESTION]:
        if one.get("status") not in _SUBMITTED or one.get("value") is None:
            continue
        if not isinstance(one["value"], str):
            raise DataError(f"the response {one['value']!r} of {where} is no single label; ask a label question.")
        reviewer = _user(one)
        found.append(Answer(uid=uid, value=one["value"], reviewer=reviewer, comment=said.get(reviewer, "")))
    return found


def _user(response: Mapping[str, Any]) -> str:
    # Argilla writes the text "None" where a response has no user.
    user = response.get("user_id")
    return "" if user in (None, "None") else str(user)
