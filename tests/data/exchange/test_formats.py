"""Both ways through the forms that Argilla 2 and Label Studio document; the reviewed files are written by hand here."""

from __future__ import annotations

import copy
import json
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemend.data.exchange import REMOVE, Answer, Suspects, read_answers, write_suspects
from tracemend.data.exchange.argilla import from_argilla, to_argilla
from tracemend.data.exchange.label_studio import configuration, from_label_studio, to_label_studio
from tracemend.errors import DataError

ADA, BO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def suspects(**changes) -> Suspects:
    table = {
        "uid": ["aaaaaaaaaaaa-0", "bbbbbbbbbbbb-0", "bbbbbbbbbbbb-1"],
        "text": ["go away", '<b>"quotes" & more\nlines', "🙂 ünï"],
        "label": ["safe", "unsafe", "safe"],
        "suggested": ["unsafe", "safe", REMOVE],
        "score": [7.5, 3.0, -1.0],
        "probability": [0.93, 0.5, None],
        "evidence": ["a model that has not seen it says 0.07", None, None],
        "rank": [1, 2, 3],
    }
    return Suspects.of(pd.DataFrame({**table, **changes}), ("safe", "unsafe"), "trace.loss")


def answered(records, *responses):
    """Argilla's ``to_dict`` after a review: responses by question, each with its value and user."""
    found = copy.deepcopy(records)
    for record, said in zip(found, responses, strict=True):
        record["responses"] = said
        record["status"] = "completed" if said else "pending"
        record["_server_id"] = "33333333-3333-4333-8333-333333333333"
    return found


def annotated(tasks, *annotations):
    """Label Studio's JSON export after a review."""
    found = copy.deepcopy(tasks)
    for number, (task, made) in enumerate(zip(found, annotations, strict=True)):
        task |= {"id": number, "project": 83, "annotations": made, "drafts": []}
    return found


def choice(label, user, *, comment=None, cancelled=False, updated="2026-03-09T21:52:49Z"):
    result = [
        {"id": f"r-{label}-{user}", "from_name": "label", "to_name": "text", "type": "choices", "origin": "manual",
         "value": {"choices": [label] if isinstance(label, str) else label}},
    ]  # fmt: skip
    if comment:
        result.append(
            {"id": "c", "from_name": "comment", "to_name": "text", "type": "textarea", "value": {"text": [comment]}}
        )
    return {
        "id": 1001, "completed_by": user, "result": result, "was_cancelled": cancelled, "ground_truth": False,
        "updated_at": updated, "lead_time": 4.3,
    }  # fmt: skip


def record(responses) -> str:
    """A file of one Argilla record, which may be damaged."""
    return json.dumps([{"id": "a-0", "fields": {"text": "x"}, "responses": responses}])


def task(annotations) -> str:
    """A file of one Label Studio task, which may be damaged."""
    return json.dumps([{"id": 7, "data": {"uid": "a-0"}, "annotations": annotations}])


def part(**changes) -> dict[str, object]:
    """An annotation whose one result lacks its value, or has what is given."""
    return {"completed_by": 1, "result": [{"type": "choices", "from_name": "label", "to_name": "text", **changes}]}


def test_argilla_records_have_the_documented_parts():
    first, second, third = json.loads(json.dumps(to_argilla(suspects())))
    assert first == {
        "id": "aaaaaaaaaaaa-0",
        "fields": {"text": "go away", "evidence": "a model that has not seen it says 0.07"},
        "metadata": {"given": "safe", "rank": 1, "suspicion": 7.5},
        "suggestions": {"label": {"value": "unsafe", "score": 0.93, "agent": "trace.loss"}},
        "responses": {},
        "vectors": {},
    }
    assert second["fields"]["evidence"] == ""
    assert third["suggestions"]["label"] == {"value": REMOVE, "score": None, "agent": "trace.loss"}


def test_argilla_responses_come_back():
    records = answered(
        to_argilla(suspects()),
        {"label": [{"value": "unsafe", "user_id": ADA}, {"value": "unsafe", "user_id": BO}],
         "comment": [{"value": "rude", "user_id": BO}]},
        {},
        {"label": [{"value": REMOVE, "user_id": "None"}]},
    )  # fmt: skip
    assert from_argilla(records) == [
        Answer(uid="aaaaaaaaaaaa-0", value="unsafe", reviewer=ADA),
        Answer(uid="aaaaaaaaaaaa-0", value="unsafe", reviewer=BO, comment="rude"),
        Answer(uid="bbbbbbbbbbbb-1", value=REMOVE),
    ]


def test_argilla_drafts_and_discarded_responses_do_not_count():
    given = [{"value": "safe", "user_id": ADA, "status": s} for s in ("draft", "discarded", "submitted")]
    records = answered(to_argilla(suspects()), {"label": given}, {"label": [{"value": None, "user_id": ADA}]}, {})
    assert len(from_argilla(records)) == 1


def test_label_studio_tasks_have_the_documented_parts():
    first, second, third = json.loads(json.dumps(to_label_studio(suspects())))
    assert first["data"] == {
        "uid": "aaaaaaaaaaaa-0", "text": "go away", "evidence": "a model that has not seen it says 0.07",
        "given": "safe", "rank": 1,
    }  # fmt: skip
    assert first["predictions"] == [
        {
            "model_version": "trace.loss",
            "score": 0.93,
            "result": [
                {"id": "suggestion-aaaaaaaaaaaa-0", "from_name": "label", "to_name": "text", "type": "choices",
                 "value": {"choices": ["unsafe"]}},
            ],
        }
    ]  # fmt: skip
    assert "score" not in third["predictions"][0]  # no probability; the detector's own score is none
    ids = {task["predictions"][0]["result"][0]["id"] for task in (first, second, third)}
    assert len(ids) == 3


def test_the_configuration_names_what_tasks_and_answers_use():
    root = ElementTree.fromstring(configuration(suspects()))
    choices = next(root.iter("Choices"))
    assert (choices.get("name"), choices.get("toName")) == ("label", "text")
    assert [c.get("value") for c in choices] == ["safe", "unsafe", REMOVE]
    assert [t.get("name") for t in root.findall("Text")] == ["text", "given", "evidence"]
    odd = Suspects.of(suspects(reply=["why", None, None]).frame, ('a"<&>', "b"), "x")
    root = ElementTree.fromstring(configuration(odd))
    assert next(root.iter("Choices"))[0].get("value") == 'a"<&>'
    shown = [t.get("value") for t in root.findall("Text")]
    assert shown == ["$text", "$reply", "$given", "$evidence"]
    assert {str(value)[1:] for value in shown} <= set(to_label_studio(odd)[0]["data"])  # each names a part of the data


def test_label_studio_annotations_come_back():
    tasks = annotated(
        to_label_studio(suspects()),
        [choice("unsafe", 10, comment="rude"), choice("safe", {"id": 7, "email": "bo@example.org"})],
        [choice("safe", 10, cancelled=True), choice([], 11)],
        [choice("unsafe", 10, updated="2026-03-10T00:00:00Z"), choice("safe", 10, updated="2026-03-09T00:00:00Z")],
    )
    assert from_label_studio(tasks) == [
        Answer(uid="aaaaaaaaaaaa-0", value="unsafe", reviewer="10", comment="rude"),
        Answer(uid="aaaaaaaaaaaa-0", value="safe", reviewer="bo@example.org"),
        Answer(uid="bbbbbbbbbbbb-1", value="safe", reviewer="10"),
        Answer(uid="bbbbbbbbbbbb-1", value="unsafe", reviewer="10"),
    ]


def test_replies_go_along_where_there_are_any():
    given = suspects(reply=["yes", None, None])
    assert [record["fields"]["reply"] for record in to_argilla(given)] == ["yes", "", ""]
    assert [task["data"]["reply"] for task in to_label_studio(given)] == ["yes", "", ""]


@pytest.mark.parametrize("target", ["argilla", "label-studio", "csv"])
def test_a_file_goes_out_and_comes_back(tmp_path, target):
    path = tmp_path / f"review.{'csv' if target == 'csv' else 'json'}"
    written = write_suspects(suspects(), path, target)
    assert path in written.values() and all(p.exists() for p in written.values())
    assert read_answers(path) == []  # nobody has answered
    if target == "csv":
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert table["text"].tolist() == suspects().frame["text"].tolist()
        table.loc[0, ["answer", "reviewer", "comment"]] = [" unsafe ", "Ada", "rude"]
        table.to_csv(path, index=False)
    else:
        content = json.loads(path.read_text("utf-8"))
        if target == "argilla":
            said = {"label": [{"value": "unsafe", "user_id": "Ada"}], "comment": [{"value": "rude", "user_id": "Ada"}]}
            content = answered(content, said, {}, {})
        else:
            content = annotated(content, [choice("unsafe", "Ada", comment="rude")], [], [])
        path.write_text(json.dumps(content), "utf-8")
    assert read_answers(path) == [Answer(uid="aaaaaaaaaaaa-0", value="unsafe", reviewer="Ada", comment="rude")]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('\r\n",;'), min_size=1
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_the_table_that_a_person_fills_in(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("table") / "review.csv"
    uids = [f"{i:012x}-0" for i in range(len(texts))]
    table = pd.DataFrame(
        {"uid": uids, "text": texts, "label": ["safe"] * len(texts), "suggested": ["unsafe"] * len(texts)}
    )
    write_suspects(Suspects.of(table, ("safe", "unsafe"), "agent"), path, "csv")
    given = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert given["uid"].tolist() == uids and given["text"].tolist() == texts
    path.write_bytes(path.read_bytes().replace(b'"","",""', b'"unsafe","Ada",""'))
    assert read_answers(path) == [Answer(uid=uid, value="unsafe", reviewer="Ada") for uid in uids]


@pytest.mark.slow
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5),
    st.data(),
)
def test_any_text_and_label_survives_both_tools(texts, data):
    labels = tuple(data.draw(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4, unique=True)))
    if REMOVE in labels:
        return
    chosen = [data.draw(st.sampled_from([*labels, REMOVE])) for _ in texts]
    uids = [f"{i:012x}-0" for i in range(len(texts))]
    table = pd.DataFrame({"uid": uids, "text": texts, "label": [labels[0]] * len(texts), "suggested": chosen})
    given = Suspects.of(table, labels, "agent")
    expected = [Answer(uid=u, value=v, reviewer="Ada") for u, v in zip(uids, chosen, strict=True)]
    # The reviewer accepts every suggestion.
    records = json.loads(json.dumps(to_argilla(given)))
    for record in records:
        record["responses"] = {"label": [{"value": record["suggestions"]["label"]["value"], "user_id": "Ada"}]}
    assert [record["fields"]["text"] for record in records] == texts
    assert from_argilla(records) == expected
    tasks = json.loads(json.dumps(to_label_studio(given)))
    for task in tasks:
        task["annotations"] = [{"completed_by": "Ada", "result": task["predictions"][0]["result"]}]
    assert from_label_studio(tasks) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "neither Argilla records nor"),
        ("{}", "neither Argilla records nor"),
        ("no json", "is not JSON"),
        ('[{"text": "go away", "label": "safe", "annotator": 1}]', "not JSON-MIN"),
        ('[{"fields": {}, "responses": {}}]', "has no id"),
        ('[{"id": "a-0", "fields": {}, "responses": {"label": [{"value": ["x", "y"]}]}}]', "no single label"),
        ('[{"data": {"text": "x"}, "annotations": [{"result": []}]}]', "no uid in its data"),
        ('[{"data": {"uid": "a-0"}, "annotations": "none"}]', "no Label Studio tasks"),
        (record({"label": None}), "responses to 'label' of record 0 of reviewed.json.*not null.*write it again"),
        (record({"label": ["x"]}), "responses to 'label' of record 0 of reviewed.json.*write it again"),
        (record({"label": [], "comment": {"value": 1}}), "responses to 'comment' of record 0 of reviewed.json"),
        (record(["x"]), "responses of record 0 of reviewed.json.*write it again"),
        (task(["x"]), "annotations of task 7 of reviewed.json.*export the project as JSON again"),
        (task([{"result": None}]), "result of an annotation of task 7 of reviewed.json.*not null.*export the project"),
        (task([{"result": ["x"]}]), "result of an annotation of task 7 of reviewed.json.*export the project"),
        (task([part()]), "value of its choices.*list of texts under 'choices'.*null.*export the project"),
        (task([part(value="x")]), "value of its choices"),
        (task([part(value={"choices": [1]})]), "value of its choices"),
        (task([part(type="textarea", from_name="comment", value={})]), "value of its textarea.*under 'text'"),
    ],
)
def test_files_that_are_none_of_these(tmp_path, content, said):
    path = tmp_path / "reviewed.json"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_answers(path)


def test_an_annotation_with_two_labels_is_an_error():
    tasks = annotated(to_label_studio(suspects()), [choice(["safe", "unsafe"], 1)], [], [])
    with pytest.raises(DataError, match="chooses 2 labels"):
        from_label_studio(tasks)


def test_a_missing_file_and_a_table_without_answers(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_answers(tmp_path / "none.json")
    path = tmp_path / "table.csv"
    path.write_text("uid,text\na-0,x\n")
    with pytest.raises(DataError, match="lacks the columns answer, it has: uid, text"):
        read_answers(path)
    path.write_text("uid/answer\na-0/safe\n")
    with pytest.raises(DataError, match=r"it has: uid/answer.*commas or semicolons"):
        read_answers(path)
    path.write_text("uid,answer\na-0,safe\n,unsafe\n")
    with pytest.raises(DataError, match="line 3 answers 'unsafe' and has no uid"):
        read_answers(path)


def test_a_table_that_a_spreadsheet_saved_with_semicolons_and_a_mark_is_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(
        'uid;text;answer;reviewer\r\na-0;"no; go, ""away""";safe;Ada\r\nb-0;x, y;;\r\n'.encode("utf-8-sig")
    )
    assert read_answers(path) == [Answer(uid="a-0", value="safe", reviewer="Ada")]


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [("x.csv", "argilla", "ends in .json"), ("x.json", "csv", "ends in .csv"), ("x.json", "argila", "did you mean")],
)
def test_targets_and_endings(tmp_path, path, target, said):
    with pytest.raises(DataError, match=said):
        write_suspects(suspects(), tmp_path / path, target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "labels", "said"),
    [
        ({"uid": ["a-0"], "text": ["x"]}, ("a", "b"), "lacks the columns label"),
        ({"uid": [], "text": [], "label": []}, ("a", "b"), "no suspect"),
        ({"uid": ["a-0", "a-0"], "text": ["x", "x"], "label": ["a", "a"]}, ("a", "b"), "occur twice"),
        ({"uid": ["a-0"], "text": ["x"], "label": ["a"]}, ("a", REMOVE), "removes an example; rename it"),
    ],
)
def test_suspects_that_cannot_be_given_out(table, labels, said):
    with pytest.raises(DataError, match=said):
        Suspects.of(pd.DataFrame(table), labels, "x")
