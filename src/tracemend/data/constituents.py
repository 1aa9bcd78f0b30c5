"""Constituent trees in brackets, as the Penn Treebank writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tracemend.data.spans import Span, SpanExamples, spans_of
from tracemend.data.treebanks import Treebank, files_of, text_of
from tracemend.errors import DataError

_PIECE = re.compile(r"\(|\)|[^\s()]+")
# What the Penn Treebank writes otherwise.
_ESCAPED = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"',
            "\\/": "/", "\\*": "*"}  # fmt: skip


@dataclass(frozen=True)
class Constituent:
    """A node of a constituent tree.

    Attributes:
        label: without function tags and indices: NP of NP-SBJ-1.
        children: nodes; of a part of speech none.
        word: of a part of speech, else empty.
    """

    label: str
    children: tuple[Constituent, ...] = ()
    word: str = ""

    def leaves(self) -> Iterator[tuple[str, str]]:
        """Words with the label of the smallest phrase around each (the parent of its part of speech)."""
        for child in self.children:
            if child.word:
                yield child.word, self.label
            else:
                yield from child.leaves()

    def phrases(self, begin: int = 0) -> Iterator[tuple[Span, str]]:
        """Spans and labels of the phrases in it, from above; of those over the same words the outermost alone.

        Args:
            begin: the place of its first word.
        """
        end = begin + sum(1 for _ in self.leaves())
        node = self
        if self.label != "ROOT" and not self.word:
            yield (begin, end), self.label
            while len(node.children) == 1 and not node.children[0].word:
                node = node.children[0]
        for child in node.children:
            if child.word:
                begin += 1
            else:
                yield from child.phrases(begin)
                begin += sum(1 for _ in child.leaves())

    @property
    def top(self) -> str:
        """Labels of the children of the first clause from above, such as ``NP VP .``."""
        node = self
        while len(node.children) == 1 and not node.children[0].word:
            node = node.children[0]
        return " ".join(child.label for child in node.children)


def read_trees(source: Path | str) -> list[Constituent]:
    """Read bracketed trees; lines that begin with a semicolon are comments, traces (-NONE-) are left out.

    Raises:
        DataError: no such file, or brackets that do not fit.
    """
    path = Path(source)
    if not path.is_file():
        raise DataError(f"there is no file {path}; give bracketed trees (.ptb, .mrg).")
    found: list[Constituent] = []
    open_nodes: list[tuple[str, list[Constituent], list[str]]] = []
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.startswith(";"):
            continue
        fresh = False
        for piece in _PIECE.findall(line):
            if piece == "(":
                open_nodes.append(("", [], []))
                fresh = True
            elif piece == ")":
                if not open_nodes:
                    raise DataError(f"line {number} of {path} closes a bracket that was never opened.")
                label, children, words = open_nodes.pop()
                node = _node(label, children, words, f"line {number} of {path}")
                if node is not None:
                    (open_nodes[-1][1] if open_nodes else found).append(node)
                fresh = False
            elif not open_nodes:
                raise DataError(f"line {number} of {path} holds {piece!r} outside of any bracket; are these trees?")
            elif fresh:
                open_nodes[-1] = (piece, *open_nodes[-1][1:])
                fresh = False
            else:
                open_nodes[-1][2].append(piece)
    if open_nodes:
        raise DataError(f"{path} ends inside a tree: {len(open_nodes)} brackets are still open.")
    if not found:
        raise DataError(f"{path} holds no tree; is it the right file?")
    return found


def trees_beside(source: Path | str) -> list[Constituent] | None:
    """The trees beside the CoNLL-U files of a folder, or beside one file (the same name, .ptb); None if one lacks."""
    beside = [file.with_suffix(".ptb") for file, _ in files_of(Path(source), ".conllu")]
    if not all(file.is_file() for file in beside):
        return None
    return [tree for file in beside for tree in read_trees(file)]


def constituent_spans(bank: Treebank, trees: Sequence[Constituent]) -> SpanExamples:
    """Phrases with their labels, one a span: where phrases cover the same words, the outermost.

    Raises:
        DataError: other sentences than the treebank's.

    Example:
        >>> spans = constituent_spans(read_conllu("gum"), trees_beside("gum"))
        >>> EdgeProbe(task="constituents").run(load("minilm"), spans)
    """
    with_constituents(bank, trees)
    return spans_of(bank, [(at, span, label) for at, tree in enumerate(trees) for span, label in tree.phrases()])


def with_constituents(bank: Treebank, trees: Sequence[Constituent]) -> Treebank:
    """Add the tags ``phrase`` (the smallest phrase around each word) and ``top`` (the sentence's, at every word).

    Raises:
        DataError: other sentences than the treebank's.
    """
    if len(trees) != len(bank):
        raise DataError(f"there are {len(trees)} trees for the {len(bank)} sentences of {bank.name}.")
    made = []
    for sentence, tree in zip(bank.sentences, trees, strict=True):
        leaves = list(tree.leaves())
        words = tuple(_plain(word) for word, _ in leaves)
        if words != tuple(map(_plain, sentence.words)):
            raise DataError(
                f"the tree of sentence {sentence.id} is over {' '.join(words[:6])!r} ({len(words)} words), the "
                f"sentence is {' '.join(sentence.words[:6])!r} ({len(sentence)} words); give trees of the same "
                "sentences in their order."
            )
        tags = {**sentence.tags, "phrase": tuple(label for _, label in leaves), "top": (tree.top,) * len(sentence)}
        made.append(replace(sentence, tags=tags))
    return replace(bank, sentences=tuple(made))


def _plain(word: str) -> str:
    for escaped, plain in _ESCAPED.items():
        word = word.replace(escaped, plain)
    return word


def _node(label: str, children: list[Constituent], words: list[str], place: str) -> Constituent | None:
    plain = label if label.startswith("-") else re.split(r"[-=]", label)[0]
    if (words and children) or len(words) > 1:
        raise DataError(
            f"the node {label!r} that ends in {place} mixes words and nodes; expected (NN word) or (NP (NN word))."
        )
    if words:
        return None if label == "-NONE-" else Constituent(plain, word=words[0])
    return Constituent(plain or "ROOT", tuple(children)) if children else None
