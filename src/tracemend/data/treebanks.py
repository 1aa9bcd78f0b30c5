"""Sentences as annotated words: treebanks (CoNLL-U) and tagged text (BIO)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import conllu
import numpy as np

from tracemend.errors import DataError
from tracemend.runs import fingerprint

PARTS = ("train", "dev", "test")
_DEV = ("dev", "val", "valid", "validation")
# Columns of CoNLL-U that are tags of a word.
_TAGS = ("lemma", "upos", "xpos", "feats", "deprel", "misc")
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Words with what annotators said of them.

    Attributes:
        words: syntactic words, of which multi-word tokens ("don't") have several.
        tags: by layer of annotation (``upos``, ``feats`` ...), one string a word, empty where there is none.
        heads: place of each word's head in the sentence, counted from 0; -1 for the root; None without a tree.
        id: of the sentence, for messages.
        document: of which it is part: no document crosses a split.
        part: ``train``, ``dev`` or ``test`` where it was published so, else empty.

    Raises:
        DataError: heads that are no tree over the words: see :func:`check_tree`.
    """

    words: tuple[str, ...]
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: tuple[int, ...] | None = None
    id: str = ""
    document: str = ""
    part: str = ""

    def __post_init__(self) -> None:
        if self.heads is None:
            return
        if len(self.heads) != len(self.words):
            raise DataError(f"sentence {self.id} has {len(self.heads)} heads for {len(self.words)} words.")
        check_tree(self.heads, self.id)

    def __len__(self) -> int:
        return len(self.words)

    def feature(self, name: str) -> tuple[str, ...]:
        """The value of one morphological feature of each word, empty where it has none."""
        found = []
        for cell in self.tags.get("feats", ("",) * len(self)):
            pairs = dict(pair.partition("=")[::2] for pair in cell.split("|"))
            found.append(pairs.get(name, ""))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Treebank:
    """Annotated sentences in their order.

    Attributes:
        sentences: at least one.
        name: for messages.

    Example:
        >>> bank = read_conllu("ud_ewt")
        >>> parts = bank.split(seed=0)
        >>> sorted(parts)
        ['dev', 'test', 'train']
    """

    sentences: tuple[Sentence, ...]
    name: str = "treebank"

    def __post_init__(self) -> None:
        if not self.sentences:
            raise DataError(f"{self.name} holds no sentence; is it the right file?")

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def words(self) -> list[tuple[str, ...]]:
        """The words of each sentence."""
        return [sentence.words for sentence in self.sentences]

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over words, tags, trees and parts."""
        return fingerprint(*[[s.words, dict(s.tags), s.heads, s.document, s.part] for s in self.sentences])

    @property
    def by_sentence(self) -> bool:
        """Whether nothing says what is of one document or part, so that a split can only divide sentences."""
        return len({s.document for s in self.sentences}) == len(self) and not any(s.part for s in self.sentences)

    def take(self, where: Iterable[int]) -> Self:
        """The sentences at these places."""
        return replace(self, sentences=tuple(self.sentences[i] for i in where))

    def sample(self, words: int, *, seed: int = 0) -> Self:
        """Sentences in random order until there are at least as many words, or all."""
        order = np.random.default_rng(seed).permutation(len(self))
        reached = np.cumsum([len(self.sentences[i]) for i in order])
        return self.take(order[: int(np.searchsorted(reached, words)) + 1])

    def split(self, *, shares: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> dict[str, Self]:
        """Train, dev and test, whole documents at a time.

        Parts under which the sentences were published stay as they are. What is missing is made of whole documents:
        dev of those of train; all three where there is no train, except that a published dev serves as train beside a
        published test.

        Args:
            shares: of words, for what has to be made.
            seed: of the order of documents.

        Raises:
            DataError: there are too few documents, or a document lies in two parts.
        """
        given = {part: [s for s in self.sentences if s.part == part] for part in PARTS}
        if not given["train"] and given["dev"] and given["test"]:
            given = {"train": given["dev"], "dev": [], "test": given["test"]}
        elif not given["train"]:
            given = {"train": list(self.sentences), "dev": [], "test": []}
        for part in ("test", "dev"):
            if not given[part]:
                place = PARTS.index(part)
                share = shares[place] / sum(shares[: place + 1])
                given["train"], given[part] = _divide(given["train"], share, seed, self.name)
        _check_disjoint(given, self.name)
        return {part: replace(self, sentences=tuple(given[part]), name=f"{self.name} ({part})") for part in PARTS}


def read_conllu(source: Path | str) -> Treebank:
    """Read a treebank in CoNLL-U.

    Multi-word tokens and empty nodes are left out: the words are the syntactic ones, and their trees are over these.

    Args:
        source: a file, or a folder whose files are called after their parts (``train*.conllu``, ``dev*``, ``test*``,
            also ``en_ewt-ud-train.conllu``).

    Raises:
        DataError: there is no such file, it is not CoNLL-U, or a sentence's heads are no tree (a head outside the
            sentence, two roots, a cycle). The message names the sentence.
    """
    found: list[Sentence] = []
    for path, part in files_of(Path(source), ".conllu"):
        document = ""
        for number, parsed in enumerate(_parsed(path), start=1):
            if "newdoc" in parsed.metadata:  # without an id
                document = f"{path.name} document {number}"
            document = parsed.metadata.get("newdoc id", document) or document
            name = parsed.metadata.get("sent_id") or f"{path.name} sentence {number}"
            found.append(_sentence(parsed, str(name), document, part))
    return Treebank(sentences=tuple(_with_documents(found)), name=str(source))


def read_bio(source: Path | str, *, tag: str = "ner") -> Treebank:
    """Read tagged words: a word and its tag a line, tabs or spaces between, an empty line after each sentence.

    The first column is the word, or the second where the first numbers a sentence's words from 1; the last is the tag,
    those between (part of speech, chunk) are left out. ``# newdoc id`` and ``# sent_id`` are read as in CoNLL-U,
    ``-DOCSTART-`` as in CoNLL 2003.

    Args:
        source: a file, or a folder with parts, see :func:`read_conllu` (endings .iob2, .bio, .iob, .conll).
        tag: what the tags are called.

    Raises:
        DataError: there is no such file, a line has no tag, or a tag is neither O nor B-X, I-X (also E-, S-).
    """
    found: list[Sentence] = []
    for path, part in files_of(Path(source), ".iob2", ".bio", ".iob", ".conll"):
        document, name, rows = "", "", list[list[str]]()
        for number, line in enumerate([*text_of(path).split("\n"), ""], start=1):
            cells = line.rstrip("\r").split("\t") if "\t" in line else line.split()
            if line.startswith("#") and not _tagged(cells):
                key, _, value = line[1:].partition("=")
                if key.strip() in ("newdoc", "newdoc id"):
                    document = value.strip() or f"{path.name} line {number}"
                name = value.strip() if key.strip() == "sent_id" else name
            elif cells and cells[0] == "-DOCSTART-":
                document = f"{path.name} line {number}"
            elif cells and any(cells):
                if len(cells) < 2 or not _is_bio(cells[-1]):
                    raise DataError(
                        f"line {number} of {path} is {line!r}; expected a word and a tag O, B-TYPE or I-TYPE."
                    )
                rows.append(cells)
            elif rows:
                numbered = all(len(row) > 2 and row[0] == str(i) for i, row in enumerate(rows, start=1))
                words = tuple(row[numbered] for row in rows)
                tags = {tag: tuple(row[-1] for row in rows)}
                name = name or f"{path.name} line {number}"
                found.append(Sentence(words=words, tags=tags, id=name, document=document, part=part))
                name, rows = "", []
    return Treebank(sentences=tuple(_with_documents(found)), name=str(source))


def read_treebank(source: Path | str) -> Treebank:
    """Read what the ending says: CoNLL-U or BIO; of a folder, what lies in it.

    Where every CoNLL-U file has constituent trees beside it (the same name, .ptb), the tags ``phrase`` and ``top`` are
    added, see :func:`tracemend.data.with_constituents`.

    Raises:
        DataError: neither; and those of the readers.
    """
    from tracemend.data.constituents import trees_beside, with_constituents

    path = Path(source)
    endings = {p.suffix for p in path.iterdir()} if path.is_dir() else {path.suffix}
    if endings & {".iob2", ".bio", ".iob", ".conll"}:
        return read_bio(path)
    bank = read_conllu(path)
    trees = trees_beside(path)
    return bank if trees is None else with_constituents(bank, trees)


def files_of(source: Path, *endings: str) -> list[tuple[Path, str]]:
    """Files of a folder with the part that each is called after; a file on its own has none.

    Raises:
        DataError: there is no such file or folder, or none in it is called after a part.
    """
    if source.is_file():
        return [(source, "")]
    if not source.is_dir():
        raise DataError(
            f"there is no file or folder {source}; give the path of a {endings[0]} file or of a folder of them."
        )
    named = [(p, _part(p)) for p in sorted(source.iterdir()) if p.suffix in endings]
    known = [(p, part) for p, part in named if part]
    if not known:
        raise DataError(
            f"{source} holds no {endings[0]} file called after its part; found: "
            f"{', '.join(p.name for p in sorted(source.iterdir())[:_SHOWN]) or 'nothing'}. Expected names with train, "
            "dev or test in them, or name one file."
        )
    return known


def _part(path: Path) -> str:
    pieces = path.stem.lower().replace("_", "-").replace(".", "-").split("-")
    return next((found for piece in pieces if (found := part_of(piece))), "")


def part_of(name: str) -> str:
    """``train``, ``dev`` or ``test`` by one of its usual names; empty for another."""
    plain = name.strip().lower()
    return "dev" if plain in _DEV else plain if plain in PARTS else ""


def text_of(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        DataError: it is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from None


def _parsed(path: Path) -> Iterator[Any]:
    # A feature stays the string it is: what parses it costs most of the reading.
    as_is: dict[str, Callable[[list[str], int], Any]] = {
        name: lambda line, i: "" if line[i] == "_" else line[i] for name in ("feats", "deps", "misc", "xpos")
    }
    for number, block in enumerate(text_of(path).replace("\r\n", "\n").strip("\n").split("\n\n"), start=1):
        if not block.strip():
            continue
        try:
            parsed = conllu.parse(block, field_parsers=as_is)
        except (conllu.exceptions.ParseException, IndexError, ValueError) as error:
            raise DataError(
                f"sentence {number} of {path} is not CoNLL-U ({error}); expected ten columns with tabs between "
                "(a constituency file is read by read_trees)."
            ) from None
        yield from parsed


def _sentence(parsed: Any, name: str, document: str, part: str) -> Sentence:
    # An id such as 3-4 (a multi-word token) or 5.1 (an empty node) is a tuple.
    rows = [token for token in parsed if isinstance(token["id"], int)]
    if not rows:
        raise DataError(f"sentence {name} has no words.")
    if [token["id"] for token in rows] != list(range(1, len(rows) + 1)):
        raise DataError(f"the words of sentence {name} are not numbered from 1; is a line missing?")
    if any(len(token) < len(conllu.parser.DEFAULT_FIELDS) for token in rows):
        raise DataError(f"sentence {name} has lines of fewer than ten columns; is it CoNLL-U, with tabs between?")
    heads: tuple[int, ...] | None = None
    if all(token["head"] is not None for token in rows):
        heads = tuple(int(token["head"]) - 1 for token in rows)
    tags = {tag: tuple("" if t[tag] in (None, "_") else str(t[tag]) for t in rows) for tag in _TAGS}
    words = tuple(str(token["form"]) for token in rows)
    return Sentence(words=words, tags=tags, heads=heads, id=name, document=document, part=part)


def check_tree(heads: Sequence[int], name: str) -> None:
    """Refuse heads that are no tree over the words.

    Args:
        heads: place of each word's head from 0, -1 for the root.
        name: of the sentence.

    Raises:
        DataError: a head outside the sentence, no root or several, or a cycle.

    Example:
        >>> check_tree([1, -1, 1], "s1")
    """
    out = [i for i, head in enumerate(heads) if not -1 <= head < len(heads)]
    if out:
        raise DataError(f"word {out[0] + 1} of sentence {name} has head {heads[out[0]] + 1}, outside the sentence.")
    roots = [i + 1 for i, head in enumerate(heads) if head == -1]
    if len(roots) != 1:
        raise DataError(f"sentence {name} has {len(roots)} roots (words {roots[:_SHOWN]}); a tree has one.")
    # Every word reaches the root in fewer steps than there are words, unless it goes round; a round doubles the steps.
    reached = np.array([*heads, -1], dtype=np.int64)
    for _ in range(len(heads).bit_length()):
        reached = reached[reached]
    if (reached != -1).any():
        where = int(np.flatnonzero(reached != -1)[0]) + 1
        raise DataError(f"the tree of sentence {name} has a cycle through word {where}'s heads.")


def _with_documents(sentences: list[Sentence]) -> list[Sentence]:
    """A sentence without a document is one of its own."""
    return [s if s.document else replace(s, document=s.id) for s in sentences]


def _tagged(cells: Sequence[str]) -> bool:
    return len(cells) > 1 and _is_bio(cells[-1])


def _is_bio(tag: str) -> bool:
    return tag == "O" or (tag[:2] in ("B-", "I-", "E-", "S-") and len(tag) > 2)


def _divide(sentences: list[Sentence], share: float, seed: int, name: str) -> tuple[list[Sentence], list[Sentence]]:
    """Two lists of whole documents, the second with about that share of the words."""
    sizes = Counter[str]()
    for sentence in sentences:
        sizes[sentence.document] += len(sentence)
    if len(sizes) < 2:
        raise DataError(
            f"{name} has {len(sizes)} document to divide into train, dev and test, and no document crosses a split; "
            "give a treebank with `# newdoc id` comments, or a folder with train, dev and test."
        )
    order = np.random.default_rng(seed).permutation(sorted(sizes))
    taken: set[str] = set()
    for document in order[:-1]:
        if sum(sizes[d] for d in taken) >= share * sum(sizes.values()) and taken:
            break
        taken.add(str(document))
    return [s for s in sentences if s.document not in taken], [s for s in sentences if s.document in taken]


def _check_disjoint(parts: Mapping[str, Sequence[Sentence]], name: str) -> None:
    where: dict[str, str] = {}
    for part, sentences in parts.items():
        for document in {s.document for s in sentences}:
            if document in where:
                raise DataError(
                    f"document {document!r} of {name} lies in {where[document]} and in {part}, so a probe would be "
                    "tested on a text that it was trained on; give parts that share no document."
                )
            where[document] = part
