from __future__ import annotations

import base64
import contextlib
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tracemend.errors import RunError, TraceError
from tracemend.studio import Session
from tracemend.studio.speaker import pieces
from tracemend.studio.words import Speaker, available


def test_a_text_is_cut_at_its_words_and_nothing_is_lost() -> None:
    words = pd.DataFrame(
        [("text", 0, 2, 2.0), ("text", 4, 9, -4.0), ("reply", 1, 3, float("nan"))],
        columns=["part", "start", "end", "weight"],
    )
    found = pieces(SimpleNamespace(words=lambda _: words), "go, home!", "(no)")
    assert found == [
        ("text", "go", 0.5),
        ("text", ", ", None),
        ("text", "home!", -1.0),
        ("reply", "(", None),
        ("reply", "no", None),
        ("reply", ")", None),
    ]


@pytest.mark.skipif(available(), reason="there is a saliency room")
def test_without_the_room_nothing_is_said(run: Path) -> None:
    speaker = Speaker(run)
    assert speaker.word_colours("original", "go home", "safe").pieces == []
    assert speaker._process is None


@pytest.mark.slow
def test_patterns_are_those_of_the_version_s_classifier(session: Session) -> None:
    example = session.splits.train.frame["text"].iloc[10]
    try:
        found = session.speaker.attention("original", example)
        (text,) = found["texts"]
        side = len(text["tokens"])
        for kind in ("attention", "moved"):
            flat = np.frombuffer(base64.b64decode(text[kind]), dtype=np.uint8)
            shares = flat.reshape(found["layers"], found["heads"], side, side) / 255
            assert shares.sum(-1) == pytest.approx(np.ones(shares.shape[:-1]), abs=side / 255)
        words = "".join(text["tokens"]).replace("##", "").replace(" ", "")
        assert example.split()[0].lower() in words
        with pytest.raises(RunError, match="not one of"):
            session.speaker.attention("nothing", example)
    finally:
        session.speaker.close()


def test_a_text_too_long_for_a_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tracemend.models import tiny
    from tracemend.studio import speaker
    from tracemend.tuning import TextClassifier

    monkeypatch.setattr(speaker, "_MOST", 10)
    with pytest.raises(TraceError, match="too many to be shown"):
        speaker.attention(TextClassifier(tiny("bert"), ("a", "b")), "so it goes", None)


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="there is no saliency room")
def test_words_are_weighed_by_the_version_that_is_asked(session: Session) -> None:
    example = session.splits.train.frame["text"].iloc[10]
    try:
        answer = session.speaker.word_colours("original", example, "safe")
        found = answer.pieces
        assert answer.fall is not None and set(answer.fall) == {"words", "random"}
        assert "".join(piece for _, piece, _ in found) == example
        weights = [weight for _, _, weight in found if weight is not None]
        assert max(map(abs, weights)) == pytest.approx(1.0)
        against = session.speaker.word_colours("original", example, "unsafe").pieces
        # With two labels what speaks for the one speaks against the other.
        assert [w for _, _, w in against if w is not None] == pytest.approx([-w for w in weights], abs=1e-3)
        with pytest.raises(RunError, match="not one of"):
            session.speaker.word_colours("nothing", example, "safe")
    finally:
        session.speaker.close()


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="there is no saliency room")
def test_a_process_that_was_killed_is_told_and_started_anew(session: Session) -> None:
    speaker = session.speaker
    try:
        assert speaker.word_colours("original", "go home", "safe").pieces
        assert speaker._process is not None
        speaker._process.kill()
        with contextlib.suppress(RunError):  # that it ended may be noticed before it is asked
            speaker.word_colours("original", "go home", "safe")
        assert speaker.word_colours("original", "go home", "safe").pieces
    finally:
        speaker.close()


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="there is no saliency room")
def test_who_waits_for_words_does_not_keep_the_studio_from_ending(session: Session) -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            session.speaker.word_colours("original", "go home", "safe")
        except RunError as error:
            said.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    while session.speaker._process is None:
        time.sleep(0.01)
    began = time.monotonic()
    session.speaker.close()
    waiting.join(10)
    assert not waiting.is_alive() and time.monotonic() - began < 2
    assert said and "look at the text again" in said[0]
