"""The whole job in one call: read, split, load the model, repair, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from tracemend.data import Splits, demo, read_splits
from tracemend.data.examples import write_examples
from tracemend.errors import TuningError, did_you_mean
from tracemend.fields import check_choice
from tracemend.mend.loop import Repair
from tracemend.mend.questions import read_answers
from tracemend.mend.ranking import PROBABLE, Rank
from tracemend.mend.result import RepairResult
from tracemend.models import LanguageModel, load
from tracemend.progress import Progress
from tracemend.runs import RunDirectory
from tracemend.trace.candidates import Drivers
from tracemend.tuning import Kind, Tuning
from tracemend.tuning.predictor import Predictor

# Share of the demo's training labels that is flipped.
DEMO_NOISE = 0.3


class TuningChoices(TypedDict, total=False):
    """Keywords of a tuning; None leaves the preset's choice. See :class:`tracemend.tuning.Tuning`."""

    adapter: Kind | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    weight_decay: float | None
    warmup: float | None
    patience: int | None
    class_weights: bool | None
    precision: Literal["auto", "bf16", "fp32"] | None
    max_length: int | None
    virtual_tokens: int | None
    lora_rank: int | None
    words: Mapping[str, str] | None


class Choices(TuningChoices, total=False):
    """Keywords of a repair; None leaves the preset's choice. See :class:`tracemend.mend.Repair`.

    ``answers`` also takes the ``questions.csv`` of earlier runs on the same data and seed, filled in.
    """

    rank: Rank | None
    fold_epochs: int | None
    drivers: Drivers | None
    checkpoints: Literal["last", "all"] | None
    top_k: int | None
    action: Literal["remove", "relabel", "auto"] | None
    rounds: int | None
    candidates: int | None
    noise: float | None
    warm_start: bool | None
    warm_epochs: int | None
    stop: Literal["best", "fixed"] | None
    controls: tuple[Literal["similarity", "random", "unchanged"], ...] | None
    kernel: Literal["cosine", "dot"] | None
    fdr: float | None
    validation: Literal["clean", "noisy"] | None
    ask: int | None
    answers: Mapping[str, str] | Sequence[Path | str] | Path | str | None


def repair(
    source: Any,
    *,
    text: str = "text",
    label: str = "label",
    reply: str | None = None,
    group: str | None = None,
    truth: str | None = None,
    valid: Any = None,
    test: Any = None,
    positive: str | None = None,
    model: str | Path | LanguageModel = "minilm",
    out: Path | str | None = None,
    preset: str = "default",
    seed: int = 0,
    drop_empty: bool = False,
    fix_splits: bool = False,
    name: str | None = None,
    command_line: str = "",
    progress: Progress = Progress(),
    **choices: Unpack[Choices],
) -> RepairResult:
    """Find and repair the wrong labels behind a classifier's errors, and say what that recovered.

    Args:
        source: a path, a data frame, a ``datasets.Dataset``, or anything else that :func:`tracemend.read` takes.
        text: its column of texts.
        label: its column of labels.
        reply: its column of replies, where an example is a message and its reply.
        group: its column of authors or conversations; no group crosses a split.
        truth: its column of true labels, where they are known.
        valid: a given validation part, of the same kind and columns (``truth`` is not read there); what is not given
            is taken out of ``source``.
        test: a given test part, likewise.
        positive: the label whose average precision is reported; the rarer by default.
        model: an embedded name, a folder, a hub id, or a loaded model.
        out: run directory; the same call with the same directory goes on where it stopped. None keeps nothing.
        preset: ``default``, or ``gbair`` as reconstructed from the paper.
        seed: of splits, tuning and controls.
        drop_empty: drop rows without text instead of refusing them.
        fix_splits: drop what given parts have in common instead of refusing it.
        name: of the data, in the report.
        choices: whatever the preset shall do otherwise, see :class:`Choices`. ``validation`` is ``noisy`` by default
            where there is neither ``valid`` nor ``truth``: labels of one column are as good as each other.

    Returns:
        The result; in a notebook it shows its verdict and figures.

    Raises:
        TracemendError: bad data, no such model or choice, or ``out`` of another run. The message says what to do.

    Example:
        >>> import tracemend
        >>> tracemend.repair(frame, text="comment", label="toxic", out="runs/mine")  # doctest: +SKIP
    """
    checked = valid is not None or truth is not None
    method = configured(preset, seed=seed, checked=checked, **choices)
    splits = read_splits(
        source,
        text=text,
        label=label,
        reply=reply,
        group=group,
        truth=truth,
        valid=valid,
        test=test,
        positive=positive,
        seed=seed,
        drop_empty=drop_empty,
        fix_splits=fix_splits,
        noisy=method.validation == "noisy",
        progress=progress,
    )
    given = {"text": text, "reply": reply, "label": label, "group": group, "truth": truth}
    return repair_splits(
        method,
        model if isinstance(model, LanguageModel) else load(model),
        splits,
        out=out,
        columns={role: column for role, column in given.items() if column is not None},
        checked=checked,
        name=name or (Path(source).name if isinstance(source, str | Path) else "data"),
        command_line=command_line,
        progress=progress,
    )


def demo_job(
    out: Path | str | None = None, *, seed: int = 0, command_line: str = "", progress: Progress = Progress()
) -> RepairResult:
    """Repair the embedded demo set, 30 % of whose training labels are flipped, with prompt tuning on minilm.

    It tunes without early stop. The demo's validation labels are right, and a tuning that stops on right labels hardly
    learns the wrong ones: there would be little to recover, and little to see.
    """
    # The last epoch counts: this is what a person gets who has no clean validation set to stop on.
    method = Repair(tuning=Tuning(adapter="prompt", patience=0, epochs=8, seed=seed), seed=seed)
    columns = {"text": "text", "reply": "reply"}
    splits = demo(noise=DEMO_NOISE, seed=seed)
    return repair_splits(
        method, load("minilm"), splits, out=out, columns=columns, name="the demo set", command="demo",
        command_line=command_line, progress=progress,
    )  # fmt: skip


def configured(preset: str = "default", *, seed: int = 0, checked: bool = True, **choices: Unpack[Choices]) -> Repair:
    """A preset with some choices changed.

    Args:
        preset: its name.
        seed: of all that is drawn.
        checked: whether the validation labels were; where they were not, ``validation`` is noisy by default.
        choices: whatever the preset shall do otherwise.

    Raises:
        TuningError: no such preset, choice or value.

    Example:
        >>> configured("gbair", candidates=10, adapter="p-tuning").candidates
        10
    """
    given = {name: value for name, value in choices.items() if value is not None}
    known = [*Choices.__annotations__, *TuningChoices.__annotations__]
    for name in given:
        if name not in known:
            raise TuningError(f"{name!r} is no choice of a repair: it is {did_you_mean(name, dict.fromkeys(known))}")
    for_tuning = {name: given.pop(name) for name in TuningChoices.__annotations__ if name in given}
    method = Repair.preset(preset, seed=seed)
    tuning = tuned_as(method.tuning, seed=seed, **for_tuning)  # type: ignore[arg-type]
    tracin = method.tracin
    answers: Any = given.get("answers")
    if isinstance(answers, str | Path):
        answers = [answers]
    if answers is not None and not isinstance(answers, Mapping):
        given["answers"] = read_answers(*answers)
    kernel = given.pop("kernel", None)
    if kernel is not None:
        check_choice("kernel", kernel, ("cosine", "dot"), TuningError)
        tracin = replace(tracin, normalise_train=kernel == "cosine", normalise_query=kernel == "cosine")
    if tracin.parts == ("prompt",) and tuning.adapter not in ("prompt", "p-tuning"):
        tracin = replace(tracin, parts=())  # an adapter without a prompt is traced whole
    if preset == "default" and not checked and given.get("rank") in (None, *PROBABLE):
        # Validation labels that come out of the same column are no better than those in question.
        given.setdefault("validation", "noisy")
    method = replace(method, tuning=tuning, tracin=tracin, **given)  # type: ignore[arg-type]
    if given.get("fold_epochs") and method.validation == "noisy":
        raise TuningError(
            "fold_epochs (--fold-epochs) is of models that are tuned beside validation labels known to be right; with "
            "noisy validation none is tuned. Give such labels (valid, --valid), or leave it out."
        )
    return method


def tuned_as(tuning: Tuning, *, seed: int, **choices: Unpack[TuningChoices]) -> Tuning:
    """A tuning with some choices changed; None changes nothing.

    Raises:
        TuningError: no such value.
    """
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    if "lora_rank" in given:
        given["rank"] = given.pop("lora_rank")
    return replace(tuning, seed=seed, **given)


def repair_splits(
    method: Repair,
    model: LanguageModel,
    splits: Splits,
    *,
    out: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    checked: bool = True,
    name: str = "data",
    command: str = "repair",
    command_line: str = "",
    progress: Progress = Progress(),
) -> RepairResult:
    """Repair parts that are read, and keep beside the result what ``predict`` and the report need.

    Args:
        method: with its configuration.
        model: is left as it is.
        splits: the parts.
        out: run directory; None keeps nothing.
        columns: what the user calls the columns, by role.
        checked: whether the validation labels were.
        name: of the data, in the report.
        command: that the run is of.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
        TracemendError: what the repair raises.
    """
    columns = columns or {}
    if out is None:
        return method.run(model, splits, progress=progress, command=command, data_name=name, checked=checked)
    folder = Path(out)
    prints = {"model": model.fingerprint, **splits.fingerprints}
    run = RunDirectory(folder, command=command, config=method.config, fingerprints=prints)
    if run.result is None:
        # Before the work, so that data which cannot be kept is refused at once.
        write_examples(splits, folder)
    result = method.run(
        model, splits, out=folder, progress=progress, command=command, command_line=command_line, data_name=name,
        # The uid keeps its name; a column of the user's that is called so keeps the canonical one.
        names={role: column for role, column in columns.items() if column != "uid"},
        checked=checked,
    )  # fmt: skip
    texts = {role: columns[role] for role in ("text", "reply") if role in columns}
    _keep_predictor(folder, method, model, result, splits, texts)
    from tracemend.report import write_report

    write_report(folder)
    return result


def _keep_predictor(
    folder: Path,
    method: Repair,
    model: LanguageModel,
    result: RepairResult,
    splits: Splits,
    columns: Mapping[str, str],
) -> None:
    """What ``predict`` needs: the recommended adapter and its threshold."""
    Predictor(
        method.tuning.classifier(model, splits.labels),
        method.tuning,
        splits.train.positive,
        result.metrics.get("threshold"),
        adapter=f"adapter-{result.verdict.recommended}",
        columns=columns,
    ).save(folder)
