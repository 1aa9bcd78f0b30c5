"""Suspects as Label Studio tasks with predictions, and the annotations back (Label Studio's JSON, not JSON-MIN)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from tracemend.data.exchange.answers import Answer, objects
from tracemend.data.exchange.suspects import Suspects, share
from tracemend.errors import DataError

CHOICE, TEXT, COMMENT = "label", "text", "comment"
_REMEDY = "export the project as JSON again, and give the file unchanged."


def to_label_studio(suspects: Suspects) -> list[dict[str, Any]]:
    """One task an example, to be imported into a project with the labelling configuration :func:`configuration`.

    ``data`` carries uid, texts, the given label, the evidence, and the cells of further columns. The prediction chooses
    the suggested label; its score
    is the probability that the given one is wrong, and left out where there is none; its model version is the
    detector.

    Example:
        >>> to_label_studio(suspects)[0]["predictions"][0]["result"][0]["value"]
        {'choices': ['unsafe']}
    """
    return [_task(row, rank, suspects) for rank, row in enumerate(suspects, start=1)]


def configuration(suspects: Suspects) -> str:
    """The labelling configuration that the tasks and the answers fit, as XML."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in suspects.answers)
    reply = '  <Text name="reply" value="$reply"/>\n' if suspects.has_replies else ""
    return (
        "<View>\n"
        f'  <Text name="{TEXT}" value="$text"/>\n'
        f"{reply}"
        '  <Header value="Given label, and why it is suspect"/>\n'
        '  <Text name="given" value="$given"/>\n'
        '  <Text name="evidence" value="$evidence"/>\n'
        f'  <Choices name="{CHOICE}" toName="{TEXT}" choice="single" showInLine="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        f'  <TextArea name="{COMMENT}" toName="{TEXT}" placeholder="Why?"/>\n'
        "</View>\n"
    )


def from_label_studio(tasks: Any, *, where: str = "the file") -> list[Answer]:
    """The annotations of reviewed tasks, for :func:`tracemend.data.exchange.settle`.

    Tasks without an annotation are skipped; so are cancelled (skipped) annotations and those that choose nothing.
    Of several annotations by one user the last that was updated counts.

    Args:
        tasks: what Label Studio exported as JSON, as JSON values.
        where: names the file in messages.

    Raises:
        DataError: it is no list of annotated tasks, a task has no uid, an annotation is damaged or chooses several
            labels.
    """
    fits = isinstance(tasks, list) and all(
        isinstance(t, Mapping) and isinstance(t.get("data"), Mapping) and isinstance(t.get("annotations", []), list)
        for t in tasks
    )
    if not fits:
        raise DataError(f"{where} holds no Label Studio tasks; export the project as JSON (not as JSON-MIN or CSV).")
    return [
        answer for at, task in enumerate(tasks) for answer in _answers(task, f"task {task.get('id', at)} of {where}")
    ]


def _task(row: Mapping[str, Any], rank: int, suspects: Suspects) -> dict[str, Any]:
    data = dict(row["own"])
    data |= {name: row[name] or "" for name in ("uid", "text", "evidence")}
    data |= {"reply": row["reply"] or ""} if suspects.has_replies else {}
    data |= {"given": row["label"], "rank": rank}
    task: dict[str, Any] = {"data": data}
    if row["suggested"] is not None:
        chosen = {
            # Results of one import need different ids; the uid makes them so.
            "id": f"suggestion-{row['uid']}", "from_name": CHOICE, "to_name": TEXT, "type": "choices",
            "value": {"choices": [row["suggested"]]},
        }  # fmt: skip
        prediction: dict[str, Any] = {"model_version": suspects.agent, "result": [chosen]}
        score = share(row["probability"])
        task["predictions"] = [prediction if score is None else {**prediction, "score": score}]
    return task


def _answers(task: Mapping[str, Any], where: str) -> list[Answer]:
    uid = task["data"].get("uid")
    if not isinstance(uid, str) or not uid:
        raise DataError(f"{where} has no uid in its data; import the file that tracemend exported, unchanged.")
    annotations = objects(task.get("annotations", []), f"the annotations of {where}", _REMEDY)
    annotations = [a for a in annotations if not a.get("was_cancelled")]
    found = []
    for annotation in sorted(annotations, key=lambda a: str(a.get("updated_at") or "")):
        choices, comment = _result(annotation, where)
        if len(choices) > 1:
            raise DataError(f"an annotation of {where} chooses {len(choices)} labels; one is expected.")
        if choices:
            found.append(Answer(uid=uid, value=choices[0], reviewer=_user(annotation), comment=comment))
    return found


def _result(annotation: Mapping[str, Any], where: str) -> tuple[list[str], str]:
    choices: list[str] = []
    comment = ""
    for part in objects(annotation.get("result", []), f"the result of an annotation of {where}", _REMEDY):
        if part.get("type") == "choices" and part.get("from_name") == CHOICE:
            choices += _texts(part, "choices", where)
        elif part.get("type") == "textarea" and part.get("from_name") == COMMENT:
            comment = " ".join(_texts(part, "text", where))
    return choices, comment


def _texts(part: Mapping[str, Any], name: str, where: str) -> list[str]:
    """The texts of a result, which stand under its type's name; one alone may stand without a list."""
    value = part.get("value")
    found = value.get(name) if isinstance(value, Mapping) else None
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise DataError(
            f"the result of an annotation of {where}: the value of its {part['type']} must hold a list of texts under "
            f"{name!r}, and is {json.dumps(value)[:80]}; {_REMEDY}"
        )
    return found


def _user(annotation: Mapping[str, Any]) -> str:
    user = annotation.get("completed_by")
    if isinstance(user, Mapping):
        user = user.get("email") or user.get("id")
    return "" if user is None else str(user)
