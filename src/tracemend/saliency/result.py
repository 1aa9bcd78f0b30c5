"""What a saliency method found: a weight for each word of each text, and how faithful these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd
from markupsafe import Markup

from tracemend.errors import TraceError
from tracemend.methods import MethodResult
from tracemend.saliency.coloured import coloured

# Words of one text that a figure has room for.
_DRAWN = 20


@dataclass(frozen=True, kw_only=True)
class SaliencyResult(MethodResult):
    """Words with their weights, text by text.

    Attributes:
        rows: one row a word: example, part (text or reply), word, start, end (characters of the text or reply), string,
            weight, rank. The weight of a word that the model does not read (the text was cut, or the tokenizer drops
            it) is NaN.
        examples: one row a text: example, text, reply, label (that the weights are about), predicted, probability (of
            the label), output (what the weights are of), elsewhere (share of all weight, in magnitude, on tokens that
            are no words: special ones, a prompt), cut; figures of the method; and the faithfulness of each text that it
            was measured on, beside the mean of its random orders.
    """

    tables: ClassVar[tuple[str, ...]] = ("examples",)

    examples: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __len__(self) -> int:
        return len(self.examples)

    def words(self, example: int) -> pd.DataFrame:
        """The words of one text in reading order.

        Raises:
            TraceError: there is no such text.
        """
        if not 0 <= example < len(self):
            raise TraceError(f"there is no text {example}; the result has texts 0 to {len(self) - 1}.")
        return self.rows[self.rows["example"] == example].sort_values("word").reset_index(drop=True)

    def table(self) -> pd.DataFrame:
        """The words of each text, the most important first."""
        return self.rows.sort_values(["example", "rank"]).reset_index(drop=True)

    def html(self, examples: Sequence[int] | None = None) -> Markup:
        """The texts with coloured words, as HTML that can stand in any page; see :func:`coloured`.

        Args:
            examples: which texts (default: all).

        Raises:
            TraceError: there is no such text.
        """
        wanted = range(len(self)) if examples is None else examples
        return Markup("\n").join(coloured(self.examples.iloc[i], self.words(i)) for i in wanted)

    def figure(self, example: int = 0) -> Any:
        """A matplotlib figure: the weightiest words of one text, and the faithfulness of all beside random orders."""
        from matplotlib.figure import Figure

        words = self.words(example).sort_values("rank").head(_DRAWN).dropna(subset="weight")
        figure = Figure(figsize=(10, 1.2 + 0.28 * max(6, len(words))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        colours = ["#1f7a6d" if weight >= 0 else "#a83a28" for weight in words["weight"]]
        left.barh(range(len(words)), words["weight"], color=colours)
        # Dollar signs would be read as formulas.
        left.set_yticks(range(len(words)), [str(word).replace("$", r"\$") for word in words["string"]])
        left.invert_yaxis()
        left.set_title(f"weight for {self.examples['label'].iloc[example]}".replace("$", r"\$"))
        names = [name for name in self.controls if name in self.metrics]
        both = pd.DataFrame({"found": self.metrics, "random order": self.controls}, index=names)
        both.astype(float).plot.barh(ax=right, color=["#2f6f8f", "#b9b9b9"])
        right.invert_yaxis()
        return figure
