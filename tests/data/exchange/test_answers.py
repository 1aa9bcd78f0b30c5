from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data.exchange import REMOVE, Answer, settle
from tracemend.errors import DataError

KNOWN, LABELS = ["a-0", "b-0"], ("safe", "unsafe")


def said(*pairs: tuple[str, str, str]) -> list[Answer]:
    return [Answer(uid=uid, value=value, reviewer=who) for uid, value, who in pairs]


def test_reviewers_that_agree_stand_behind_it_together():
    found = settle(said(("a-0", "safe", "Bo"), ("b-0", REMOVE, "Bo"), ("a-0", "safe", "Ada")), KNOWN, LABELS)
    assert [(one.uid, one.value, one.reviewers, one.answers) for one in found] == [
        ("a-0", "safe", ("Ada", "Bo"), 2),
        ("b-0", REMOVE, ("Bo",), 1),
    ]


def test_the_last_answer_of_one_reviewer_counts():
    found = settle(said(("a-0", "safe", "Ada"), ("a-0", "unsafe", "Ada")), KNOWN, LABELS)
    assert (found[0].value, found[0].answers) == ("unsafe", 1)


def test_disagreement_is_an_error_that_names_who_said_what():
    both = said(("a-0", "safe", "Ada"), ("a-0", "unsafe", ""))
    with pytest.raises(
        DataError, match=r"disagree on 1 of 1 examples \(a-0: Ada 'safe', somebody 'unsafe'\).*majority"
    ):
        settle(both, KNOWN, LABELS)


def test_more_than_half_decide_and_a_split_stays_undecided():
    answers = said(
        ("a-0", "safe", "1"), ("a-0", "unsafe", "2"), ("a-0", "safe", "3"), ("b-0", "safe", "1"), ("b-0", "unsafe", "2")
    )
    a, b = settle(answers, KNOWN, LABELS, rule="majority")
    assert (a.value, a.reviewers) == ("safe", ("1", "3"))
    assert (b.value, b.reviewers) == (None, ("1", "2"))


def test_comments_are_kept_once_each():
    answers = [Answer(uid="a-0", value="safe", reviewer=r, comment=c) for r, c in (("1", "x"), ("2", ""), ("3", "x"))]
    assert settle(answers, KNOWN, LABELS)[0].comment == "x"


@pytest.mark.parametrize(
    ("answer", "rule", "message"),
    [
        (("c-0", "safe", "Ada"), "agree", "1 of 1 reviewed examples are none of this run's"),
        (("a-0", "save", "Ada"), "agree", "did you mean 'safe'"),
        (("a-0", "safe", "Ada"), "most", "not one of: agree, majority"),
    ],
)
def test_unknown_uids_labels_and_rules(answer, rule, message):
    with pytest.raises(DataError, match=message):
        settle(said(answer), KNOWN, LABELS, rule=rule)


@given(st.lists(st.tuples(st.sampled_from(KNOWN), st.sampled_from([*LABELS, REMOVE]), st.sampled_from("123456"))))
def test_majority_is_more_than_half_of_the_last_answers(answers):
    last = {(uid, who): value for uid, value, who in answers}
    for one in settle(said(*answers), KNOWN, LABELS, rule="majority"):
        own = [value for (uid, _), value in last.items() if uid == one.uid]
        assert one.answers == len(own)
        if one.value is None:
            assert all(2 * own.count(value) <= len(own) for value in own)
        else:
            assert 2 * own.count(one.value) > len(own)
