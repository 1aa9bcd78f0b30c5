"""The requests that a page makes, in JSON: reads with GET, changes with POST."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tracemend.data.decision import Decision
from tracemend.errors import DataError, RunError, TracemendError
from tracemend.studio import lists, takeaway, words
from tracemend.studio.asked import Asked
from tracemend.studio.compare import compare
from tracemend.studio.decisions import COMMENT, NAME, NOTHING, WORD, Act, Basis, Conflict, Scope
from tracemend.studio.jobs import Job
from tracemend.studio.session import Session
from tracemend.studio.versions import rows_of

Answer = Callable[[Session, Asked], Any]
# Characters of a sentence that somebody typed.
SENTENCE = 2000


def state(session: Session, asked: Asked) -> dict[str, Any]:
    """What the page needs before anything else."""
    facts = session.result.get("data", {})
    rows = session.review.rows()
    return {
        "run": str(session.run),
        "name": facts.get("name", session.run.name),
        "command": session.result["command"],
        "model": session.result.get("model", {}),
        "labels": list(session.splits.labels),
        "positive": session.splits.train.positive,
        "checked": facts.get("checked", True),  # of the validation labels; runs from before do not say
        "sizes": {name: len(part) for name, part in session.splits.parts.items()},
        "versions": [_version(session, v) for v in session.versions()],
        "current": session.current,
        "proposed": len(rows.machine),
        "words": words.available(),
        "pairs": bool(session.splits.train.frame["reply"].notna().any()),
        "files": takeaway.FILES,
        **pulse(session, asked),
    }


def pulse(session: Session, asked: Asked) -> dict[str, Any]:
    """How far ledger and work are: what the page asks for every few seconds."""
    rows = session.review.rows()
    job = session.jobs.latest()
    newest = rows.all[-1] if rows.all else None
    return {
        "ledger": rows.version,
        "by": None if newest is None else newest.actor,
        "decided": sum(d.kind != "keep" for d in rows.people.values()),
        "reviewed": len(rows.people),
        "marks": session.marks(rows),
        "job": None if job is None else _job(job),
    }


def errors(session: Session, asked: Asked) -> dict[str, Any]:
    """A window of the errors."""
    return lists.errors(
        session,
        asked.text("version"),
        show=asked.text("show", "wrong"),
        query=asked.text("q", ""),
        sort=asked.text("sort", "confidence"),
        descending=bool(asked.flag("desc", True)),
        against=asked.text("against", "") or None,
        keep=asked.text("keep", "") or None,
        offset=asked.number("offset", 0, 0, 10**9),
        limit=asked.number("limit", 100, 1, lists.WINDOW),
    )


def suspects(session: Session, asked: Asked) -> dict[str, Any]:
    """A window of the suspects."""
    return lists.suspects(
        session,
        asked.text("version"),
        show=asked.text("show", "open"),
        query=asked.text("q", ""),
        sort=asked.text("sort", "rank"),
        descending=bool(asked.flag("desc", False)),
        keep=asked.text("keep", "") or None,
        offset=asked.number("offset", 0, 0, 10**9),
        limit=asked.number("limit", 100, 1, lists.WINDOW),
    )


def error(session: Session, asked: Asked) -> dict[str, Any]:
    """One error with its evidence."""
    return session.error(asked.text("version"), asked.text("uid"))


def example(session: Session, asked: Asked) -> dict[str, Any]:
    """One training example with its evidence."""
    return session.example(asked.text("version"), asked.text("uid"))


def history(session: Session, asked: Asked) -> dict[str, Any]:
    """A window of the ledger."""
    offset = asked.number("offset", 0, 0, 10**9)
    return lists.history(session, offset=offset, limit=asked.number("limit", 100, 1, lists.WINDOW))


def decide(session: Session, asked: Asked) -> dict[str, Any]:
    """A decision on one or more training examples."""
    seen, name = asked.seen(), session.evidence(asked.text("version")).version.name
    act = asked.choice("act", ("accept", "label", "remove", "comment"))
    actor = asked.text("actor", longest=NAME)
    rows = session.review.rows()
    old = {uid: session.label_now(uid, rows) for uid in seen}
    evidence: dict[str, dict[str, Any]] = {uid: {"seen_with": name} for uid in seen}
    acts = {uid: _meant(session, asked, act, name, uid, evidence[uid]) for uid in seen}
    done = session.review.decide(actor, acts, seen=seen, old=old, evidence=evidence)
    return {"done": done, "rows": session.train_rows(name, list(seen)), **pulse(session, asked)}


def _meant(session: Session, asked: Asked, act: str, name: str, uid: str, evidence: dict[str, Any]) -> Act:
    """The kind of decision and its new value that an act comes to for one example."""
    if act == "comment":
        return "comment", asked.text("value", longest=COMMENT)
    if act == "remove":
        return "remove", None
    if act == "accept":
        new, evidence["reason"] = session.suggestion(name, uid)
    else:
        new = asked.choice("value", session.splits.labels)
    given = session.given(uid)
    # The label it came with, chosen by a person: looked at and kept.
    return ("keep", None) if new == given else ("label", new)


def undo(session: Session, asked: Asked) -> dict[str, Any]:
    """Take back a row of the ledger, or the actor's last decision."""
    actor, name = asked.text("actor", longest=NAME), session.evidence(asked.text("version")).version.name
    if asked.fields.get("row") is not None:
        which = asked.number("row", None, 1, 10**9)
    else:
        last = session.review.last(" ".join(actor.split()))
        if last is None:
            raise RunError("there is no decision of yours that could be undone.")
        which = last.version
    back = session.review.undo(actor, which)
    uids = [d.uid for d in back if session.has("train", d.uid)]
    return {"undone": [_told(d) for d in back], "rows": session.train_rows(name, uids), **pulse(session, asked)}


def mark(session: Session, asked: Asked) -> dict[str, Any]:
    """A word that should or should not matter."""
    uid = asked.text("uid")
    if not session.has("train", uid) and not session.has("validation", uid):
        raise RunError(f"no example of the run has the uid {uid[:40]!r}; look at the list again.")
    scope: Scope = asked.choice("scope", ("example", "all"))
    word = asked.text("word", longest=WORD)
    done = session.review.mark_word(
        asked.text("actor", longest=NAME),
        uid,
        word,
        matters=asked.flag("matters", None),
        scope=scope,
        seen=asked.number("seen", None, 0, 10**9),
        had=asked.number("had", 0, 0, 10**9),
    )
    return {"done": done, "held": session.held(word), **pulse(session, asked)}


def colours(session: Session, asked: Asked) -> dict[str, Any]:
    """The words of an example with their weights."""
    label = asked.choice("label", session.splits.labels)
    example = session.text_of(asked.text("uid"))
    name = session.evidence(asked.text("version")).version.name
    found = session.speaker.word_colours(name, example["text"], label, reply=example["reply"])
    return {"words": found.pieces, "fall": found.fall}


def attention(session: Session, asked: Asked) -> dict[str, Any]:
    """Who looks where in an example."""
    example = session.text_of(asked.text("uid"))
    name = session.evidence(asked.text("version")).version.name
    return session.speaker.attention(name, example["text"], reply=example["reply"])


def unit(session: Session, asked: Asked) -> dict[str, Any]:
    """What a unit does on an example."""
    example = session.text_of(asked.text("uid"))
    name = session.evidence(asked.text("version")).version.name
    # An empty field of the page: the unit that stands out.
    which = asked.number("unit", None, 0, 10**9) if asked.text("unit", "") else None
    site = asked.text("site", "")
    return session.speaker.unit(name, example["text"], reply=example["reply"], site=site, unit=which)


def sentence(session: Session, asked: Asked) -> dict[str, Any]:
    """What two versions answer to a text that was typed, and which of its words speak for the later one's answer."""
    text, reply = (asked.text(name, "", longest=SENTENCE).strip() for name in ("text", "reply"))
    if not text:
        raise DataError("the text is empty; type a sentence.")
    names = [session.evidence(asked.text(which)).version.name for which in ("before", "after")]
    answers = [session.speaker.answer(name, text, reply=reply or None) for name in names]
    label = max(answers[1], key=answers[1].__getitem__)
    weighed = [session.speaker.word_colours(name, text, label, reply=reply or None) for name in names]
    return {
        "label": label,
        "models": [
            {"version": name, "probabilities": answer, "words": found.pieces}
            for name, answer, found in zip(names, answers, weighed, strict=True)
        ],
    }


def prepare(session: Session, asked: Asked) -> dict[str, Any]:
    """Start what computes the evidence of a version."""
    name = session.evidence(asked.text("version")).version.name
    return {"job": _job(session.jobs.start("prepare", {"version": name}))}


def retrain(session: Session, asked: Asked) -> dict[str, Any]:
    """Start a training on the labels as decided."""
    basis: Basis = asked.choice("basis", ("people", "all"))
    rows = session.review.rows()
    changed = any(d.kind != "keep" for d in rows.in_force(basis).values())
    if not changed and not session.marks(rows):
        raise RunError(NOTHING)
    given = {
        "basis": basis,
        "actor": asked.text("actor", longest=NAME),
        "note": asked.text("note", "", longest=COMMENT),
        "parent": session.evidence(asked.text("version")).version.name,
    }
    return {"job": _job(session.jobs.start("retrain", given))}


def cancel(session: Session, asked: Asked) -> dict[str, Any]:
    """End the running job."""
    job = session.jobs.latest()
    if job is None or job.state != "running":
        raise RunError("no job is running; there is nothing to cancel.")
    return {"job": _job(session.jobs.cancel(job.number))}


def use(session: Session, asked: Asked) -> dict[str, Any]:
    """Go back, or on, to a version."""
    session.use(asked.text("version"))
    return {"current": session.current}


def compared(session: Session, asked: Asked) -> dict[str, Any]:
    """Two versions side by side."""
    return compare(session, asked.text("before"), asked.text("after"))


READS: dict[str, Answer] = {
    "state": state,
    "pulse": pulse,
    "errors": errors,
    "error": error,
    "suspects": suspects,
    "example": example,
    "history": history,
    "words": colours,
    "attention": attention,
    "unit": unit,
    "compare": compared,
    "sentence": sentence,
}
CHANGES: dict[str, Answer] = {
    "decide": decide,
    "undo": undo,
    "mark": mark,
    "prepare": prepare,
    "retrain": retrain,
    "cancel": cancel,
    "use": use,
}


# Reads that wait for the model: one at a time, and not in the threads that decisions are made in.
SLOW = ("words", "attention", "unit", "sentence")


def routes(session: Session) -> list[Route]:
    """All of them, under ``/api``."""
    made = [
        Route(f"/api/{name}", _answering(session, answer, alone=name in SLOW), methods=["GET"])
        for name, answer in READS.items()
    ]
    made += [Route(f"/api/{name}", _answering(session, answer), methods=["POST"]) for name, answer in CHANGES.items()]

    async def file(request: Request) -> Response:
        name, wanted = request.path_params["version"], request.path_params["file"]
        try:
            path = await run_in_threadpool(takeaway.path_of, session, name, wanted)
        except TracemendError as error:
            return _failed(error)
        return FileResponse(path, filename=f"{session.run.name}-{name}-{wanted}")

    return [*made, Route("/take/{version}/{file}", file, methods=["GET"])]


def _answering(session: Session, answer: Answer, *, alone: bool = False) -> Callable[[Request], Any]:
    turn = CapacityLimiter(1)

    async def work(request: Request, asked: Asked) -> Any:
        if not alone:
            return await run_in_threadpool(answer, session, asked)
        async with turn:
            # The page has gone on to another text meanwhile: nobody waits for this one.
            if await request.is_disconnected():
                return None
            return await to_thread.run_sync(answer, session, asked, limiter=CapacityLimiter(1), abandon_on_cancel=True)

    async def respond(request: Request) -> Response:
        try:
            fields = dict(request.query_params) if request.method in ("GET", "HEAD") else await _fields(request)
            began = time.perf_counter()
            found = await work(request, Asked(fields))
        except TracemendError as error:
            return _failed(error)
        took = f"total;dur={(time.perf_counter() - began) * 1000:.1f}"
        return JSONResponse(found, headers={"server-timing": took})

    return respond


async def _fields(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise DataError(f"the request is no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise DataError("the request is no JSON object.")
    return found


def _failed(error: TracemendError) -> Response:
    status = 409 if isinstance(error, Conflict) else 400
    return JSONResponse({"error": str(error), "conflict": status == 409}, status_code=status)


def _version(session: Session, v: Any) -> dict[str, Any]:
    changes = sum(d.kind != "keep" for d in rows_of(v, session.review.rows().all)) + len(v.words)
    figures = session.evidence(v.name).figures if (v.folder / "figures.json").exists() else {}
    facts = {name: getattr(v, name) for name in ("name", "title", "made", "actor", "basis", "parent", "note")}
    return {
        **facts,
        "n_train": v.n_train or len(session.splits.train),
        "changes": changes,
        "predicted": v.predicted,
        "prepared": v.prepared,
        "figures": figures,
    }


def _job(job: Job) -> dict[str, Any]:
    shown = ("stage", "task", "share", "left", "message", "version")
    return {
        "number": job.number,
        "kind": job.kind,
        "state": job.state,
        "asked": {key: job.asked.get(key) for key in ("version", "basis", "actor")},
        **{key: job.facts.get(key) for key in shown},
        "epochs": job.epochs,
    }


def _told(d: Decision) -> dict[str, Any]:
    return {"row": d.version, "uid": d.uid, "kind": d.kind, "old": d.old, "new": d.new}
