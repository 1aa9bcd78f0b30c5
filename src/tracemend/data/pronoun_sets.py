"""Readers of pronouns by data set: Winogender and WinoBias, GUM's clusters, and whatever a folder holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tracemend.data.pronouns import Pronoun, Pronouns, Span, read_gap, worded
from tracemend.data.spans import gum_mentions
from tracemend.data.tables import table_from_file
from tracemend.data.treebanks import Treebank, read_conllu
from tracemend.errors import DataError

_GENDERS = {
    "he": "male", "him": "male", "his": "male", "himself": "male",
    "she": "female", "her": "female", "hers": "female", "herself": "female",
    "they": "neutral", "them": "neutral", "their": "neutral", "theirs": "neutral",
}  # fmt: skip
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_HALF = 50.0


def read_pronouns(source: Path | str) -> Pronouns:
    """Read what lies there, told by its files: GAP, Winogender, WinoBias, or a treebank with GUM's clusters.

    Args:
        source: a folder, a TSV file of GAP, or a CoNLL-U file.

    Raises:
        DataError: it is none of these, and those of the readers.

    Example:
        >>> read_pronouns("winogender").of("test")[0].groups
        ('male', 'anti')
    """
    path = Path(source)
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        if "all_sentences.tsv" in names:
            return read_winogender(path)
        if any("_stereotyped_" in name for name in names):
            return read_winobias(path)
        if any(name.endswith(".conllu") for name in names):
            return gum_pronouns(read_conllu(path))
        if "gap-test.tsv" not in names:
            raise DataError(
                f"{source} is no folder of pronouns: expected GAP (gap-test.tsv), Winogender (all_sentences.tsv), "
                "WinoBias (pro_stereotyped_type1.txt.test) or GUM (train.conllu)."
            )
    elif path.suffix == ".conllu":
        return gum_pronouns(read_conllu(path))
    return read_gap(path)


def read_winogender(folder: Path | str) -> Pronouns:
    """Read Winogender (Rudinger et al. 2018): an occupation, a participant, and a pronoun of three genders.

    All examples are test. Groups: the pronoun's gender (male, female, neutral); and ``pro`` where a gendered pronoun
    stands for the occupation and has the gender of most people in it, or stands for the other one and has not; else
    ``anti``. Most is by the share of women of the Bureau of Labor Statistics. The three genders of a sentence are one
    document.

    Args:
        folder: with ``all_sentences.tsv`` and ``occupations-stats.tsv``.

    Raises:
        DataError: a file or column is missing, or a sentence lacks its occupation, participant or pronoun.
    """
    path = Path(folder)
    rows = table_from_file(path / "all_sentences.tsv").frame
    stats = table_from_file(path / "occupations-stats.tsv").frame
    for frame, columns, name in (
        (rows, ("sentid", "sentence"), "all_sentences.tsv"),
        (stats, ("occupation", "bls_pct_female"), "occupations-stats.tsv"),
    ):
        lacking = [column for column in columns if column not in frame]
        if lacking:
            raise DataError(f"{path / name} has no column {lacking[0]!r}; it is not Winogender.")
    women = {str(o): float(str(share)) for o, share in zip(stats["occupation"], stats["bls_pct_female"], strict=True)}
    found = []
    for name, text in zip(rows["sentid"].astype(str), rows["sentence"].astype(str), strict=True):
        pieces = name.split(".")
        if len(pieces) < 4 or pieces[2] not in ("0", "1") or pieces[0] not in women:
            raise DataError(
                f"{name!r} of {path / 'all_sentences.tsv'} is no name of Winogender's; expected "
                "occupation.participant.ANSWER.gender.txt with an occupation of occupations-stats.tsv."
            )
        occupation, participant, answer, gender = pieces[:4]
        words, spans = worded(text)
        lower = text.lower()
        places = [lower.find(mention) for mention in (occupation, participant)]
        at = [i for i, word in enumerate(words) if word.lower() in _GENDERS]
        if min(places) < 0 or len(at) != 1:
            raise DataError(f"{name} of {path} lacks {occupation!r}, {participant!r} or one pronoun: {text!r}.")
        candidates = tuple(
            _covered(spans, place, place + len(mention))
            for place, mention in zip(places, (occupation, participant), strict=True)
        )
        groups: tuple[str, ...] = (gender,)
        if gender in ("male", "female"):
            usual = "female" if women[occupation] > _HALF else "male"
            groups += ("pro" if (usual == gender) == (answer == "0") else "anti",)
        found.append(
            Pronoun(words=words, pronoun=(at[0], at[0] + 1), candidates=candidates, right=(int(answer),), id=name,
                    part="test", groups=groups, document=".".join(pieces[:3]))
        )  # fmt: skip
    return Pronouns(examples=tuple(found), name=str(folder))


def read_winobias(folder: Path | str) -> Pronouns:
    """Read WinoBias (Zhao et al. 2018): two occupations and a pronoun, for and against the stereotype.

    The first pronoun in brackets is asked; the candidates are the occupation in brackets and every other of the two
    lists in the sentence, without their articles. Parts are dev and test. Groups: ``pro`` or ``anti``; ``type1``
    (what the sentence says decides) or ``type2`` (syntax decides); the pronoun's gender. A sentence for and its twin
    against are one document.

    Args:
        folder: with ``{pro,anti}_stereotyped_type{1,2}.txt.{dev,test}`` and ``{male,female}_occupations.txt``.

    Raises:
        DataError: a file is missing, or a sentence has no pronoun in brackets or no second occupation.
    """
    path = Path(folder)
    lists = [path / f"{gender}_occupations.txt" for gender in ("male", "female")]
    files = sorted(path.glob("*_stereotyped_type*.txt.*"))
    lacking = [file for file in lists if not file.is_file()]
    if lacking or not files:
        raise DataError(f"{folder} has no {lacking[0].name if lacking else '*_stereotyped_type*'}; it is not WinoBias.")
    known = {line.strip().lower() for file in lists for line in _lines(file)}
    found = []
    for file in files:
        arm, _, kind = file.name.partition(".")[0].partition("_stereotyped_")
        part = file.suffix[1:]
        for number, line in enumerate(_lines(file), start=1):
            marked = line.partition(" ")[2]
            words, right, others, pronoun = _bracketed(marked, known, f"line {number} of {file}")
            gender = _GENDERS[words[pronoun[0]].lower()]
            candidates = tuple(sorted({right, *others}))
            found.append(
                Pronoun(words=words, pronoun=pronoun, candidates=candidates, right=(candidates.index(right),),
                        id=f"{file.name} {number}", part=part, groups=(arm, kind, gender),
                        document=f"{kind} {part} {number}")
            )  # fmt: skip
    return Pronouns(examples=tuple(found), name=str(folder))


def gum_pronouns(bank: Treebank, *, before: int = 2) -> Pronouns:
    """Personal pronouns of a treebank with GUM's clusters, and the mentions before them.

    A candidate is the nearest mention of each cluster in the sentence and those before it, without the mentions that
    hold the pronoun; the right one is of the pronoun's cluster. Pronouns without a right or without a wrong candidate
    there are left out.

    Args:
        bank: with the ``Entity=`` of MISC, ``upos`` and features.
        before: sentences of the same document to look back.

    Raises:
        DataError: nothing is annotated so.

    Example:
        >>> pronouns = gum_pronouns(read_conllu("gum"))
    """
    mentions = gum_mentions(bank)
    found = []
    for at, sentence in enumerate(bank.sentences):
        kinds, upos = sentence.feature("PronType"), sentence.tags.get("upos", ())
        first = max(at - before, 0)
        while bank.sentences[first].document != sentence.document:
            first += 1
        starts: dict[int, int] = {}
        words: list[str] = []
        for i in range(first, at + 1):
            starts[i] = len(words)
            words += bank.sentences[i].words
        for own in mentions[at]:
            j = own.span[0]
            if own.span[1] != j + 1 or upos[j] != "PRON" or kinds[j] != "Prs":
                continue
            here = starts[at] + j
            nearest: dict[str, Span] = {}
            for i in range(first, at + 1):
                for mention in mentions[i]:
                    begin, end = (starts[i] + place for place in mention.span)
                    if end <= here and begin >= nearest.get(mention.group, (-1, 0))[0]:
                        nearest[mention.group] = (begin, end)
            if own.group not in nearest or len(nearest) < 2:
                continue
            groups = list(nearest)
            found.append(
                Pronoun(words=tuple(words), pronoun=(here, here + 1), candidates=tuple(nearest.values()),
                        right=(groups.index(own.group),), id=f"{sentence.id} word {j + 1}", part=sentence.part,
                        document=sentence.document)
            )  # fmt: skip
    if not found:
        raise DataError(f"{bank.name} has no personal pronoun with mentions before it; is it annotated as GUM is?")
    return Pronouns(examples=tuple(found), name=bank.name)


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def _bracketed(marked: str, known: set[str], place: str) -> tuple[tuple[str, ...], Span, list[Span], Span]:
    """Words, the right candidate, the other occupations, and the first pronoun in brackets."""
    plain, named, pronoun, end = "", None, None, 0
    for match in _BRACKET.finditer(marked):
        plain += marked[end : match.start()]
        begin, inside = len(plain), match.group(1).strip()
        if inside.lower() in _GENDERS:
            pronoun = pronoun or (begin, begin + len(inside))
        else:
            article = _ARTICLE.match(inside)
            named = named or (begin + (article.end() if article else 0), begin + len(inside))
        plain += inside
        end = match.end()
    plain += marked[end:]
    if named is None or pronoun is None:
        raise DataError(f"{place} has no occupation and pronoun in brackets: {marked!r}; is it WinoBias?")
    words, spans = worded(plain)
    right = _covered(spans, *named)
    others = []
    for occupation in sorted(known):
        for match in re.finditer(rf"\b{re.escape(occupation)}\b", plain, re.IGNORECASE):
            span = _covered(spans, *match.span())
            if span[1] <= right[0] or span[0] >= right[1]:
                others.append(span)
    if not others:
        raise DataError(f"{place} has no second occupation of the two lists: {marked!r}.")
    return words, right, others, _covered(spans, *pronoun)


def _covered(spans: Sequence[Span], begin: int, end: int) -> Span:
    """Words that some characters cover."""
    covered = [i for i, (first, last) in enumerate(spans) if first < end and last > begin]
    return covered[0], covered[-1] + 1
