"""The options of commands that tune on labelled text: the data with its parts, and the tuning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemend.cli import options as o
from tracemend.cli.progress import shown

if TYPE_CHECKING:
    from tracemend.data import Splits


@dataclass(frozen=True, kw_only=True)
class Data:
    """FILE, its columns, and further files."""

    file: o.File
    text: o.Text
    label: o.Label
    reply: o.Reply = None
    valid: o.Valid = None
    test: o.Test = None
    group: o.Group = None
    positive: o.Positive = None
    drop_empty: o.DropEmpty = False
    fix_splits: o.FixSplits = False

    @property
    def name(self) -> str:
        """The file's name, as results have it."""
        return Path(self.file).name

    @property
    def columns(self) -> dict[str, str]:
        """What a tuned classifier reads, by role."""
        return {"text": self.text} if self.reply is None else {"text": self.text, "reply": self.reply}

    def splits(self, *, seed: int, quiet: bool, **further: Any) -> Splits:
        """Read the parts; ``further`` goes to :func:`tracemend.data.read_splits`."""
        from tracemend.data import read_splits

        with shown(quiet) as progress, o.columns_of(self.valid, self.test):
            return read_splits(
                self.file, text=self.text, label=self.label, reply=self.reply, group=self.group, valid=self.valid,
                test=self.test, positive=self.positive, drop_empty=self.drop_empty, fix_splits=self.fix_splits,
                seed=seed, progress=progress, **further,
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrueData(Data):
    """The same where the true labels may be known."""

    truth: o.Truth = None

    @property
    def checked(self) -> bool:
        """Whether there are labels that can be trusted."""
        return self.valid is not None or self.truth is not None

    @property
    def roles(self) -> dict[str, str]:
        """All columns that were named, by role."""
        roles = {name: getattr(self, name) for name in ("text", "reply", "label", "group", "truth")}
        return {role: column for role, column in roles.items() if column is not None}

    def splits(self, *, seed: int, quiet: bool, **further: Any) -> Splits:
        """As of :class:`Data`, with the truth."""
        return super().splits(seed=seed, quiet=quiet, truth=self.truth, **further)


@dataclass(frozen=True, kw_only=True)
class FixedTuning:
    """How an adapter is tuned, for as many epochs as the command says; None leaves the default."""

    adapter: o.AdapterKind = None
    batch_size: o.BatchSize = None
    learning_rate: o.LearningRate = None
    max_length: o.MaxLength = None
    virtual_tokens: o.VirtualTokens = None
    class_weights: o.ClassWeights = None

    @property
    def choices(self) -> dict[str, Any]:
        """By the names of the fields of :class:`tracemend.tuning.Tuning`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class StoppedTuning(FixedTuning):
    """The same where the validation part says how long."""

    epochs: o.Epochs = None
    patience: o.Patience = None
    precision: o.Precision = None
