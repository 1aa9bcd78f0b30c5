"""The acceptance lines of each benchmark: what the literature sheet measured, and the bounds of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One acceptance line: what the prototype measured, and between which bounds ours must lie."""

    name: str
    sheet: str
    low: float | None = None
    high: float | None = None

    def holds(self, values: Sequence[float]) -> bool:
        """Whether every value lies between the bounds."""
        low, high = self.low, self.high
        return (low is None or min(values) >= low) and (high is None or max(values) <= high)


UPOS = [
    *(Line(f"accuracy layer {i}", sheet) for i, sheet in enumerate(("", ".907", ".934", ".934", ".917", ".896")) if i),
    Line("accuracy layer 0", ".875"),
    Line("accuracy layer 6", ".824"),
    Line("best layer", "2-4", 2, 4),
    Line("best", ".934", 0.92),
    Line("best - layer 6", ".11", 0.05),
    Line("selectivity layer 0", ".196"),
    Line("selectivity layer 2", ".340"),
    Line("selectivity layer 4", ".395"),
    Line("selectivity 4 - 0", ".199", 0.0),
    Line("random weights", ".711", None, 0.74),
    Line("random weights selectivity", ".043", None, 0.06),
    Line("word type", ".822"),
    Line("majority", ".161"),
    Line("neighbours of layer 0", ".897"),
    Line("replaced words layer 0", ".832"),
    Line("made-up words layer 0", ".293"),
    Line("replaced words layer 3", ".908"),
    Line("made-up words layer 3", ".439"),
    Line("compression layer 2", "7.78"),
    Line("compression layer 0", "4.52"),
    Line("compression layer 6", "2.61"),
    Line("compression random layer 2", "1.77"),
    Line("compression 2 / 1.5 x 0", "1.15", 1.0),
    Line("compression 0 / 2 x random", "1.92", 1.0),
    Line("compression control layer 2", "1.23", None, 1.5),
    Line("seconds", "60", None, 120),
]
MLP = [
    Line("selectivity linear", ".340"),
    Line("selectivity hidden 200", ".236"),
    Line("linear - hidden", ".104", 0.0),
]
NEIGHBOUR = [
    Line("layer 0", ".254"), Line("layer 2", ".787", 0.7), Line("layer 4", ".585"), Line("layer 6", ".327"),
    Line("random weights", ".26", None, 0.3), Line("majority", ".10"),
]  # fmt: skip
SENTENCES = [
    Line(name, sheet)
    for name, sheet in (
        ("tense", ".93"), ("tense random weights", ".74"), ("tense majority", ".75"),
        ("length", ".84"), ("length random weights", ".84"), ("length majority", ""),
        ("depth", ".54"), ("depth random weights", ".57"), ("depth majority", ""),
        ("voice", "not measured"), ("voice random weights", ""), ("voice majority", ""),
        ("subject-number", ".80"), ("subject-number random weights", ".77"), ("subject-number majority", ""),
        ("bigram-shift", "not measured"), ("bigram-shift random weights", ""), ("bigram-shift majority", ""),
    )
]  # fmt: skip
STRUCTURAL = [
    Line("uuas layer 0", ".501"), Line("uuas layer 3", ".660"), Line("uuas layer 4", ".590"),
    Line("uuas layer 6", ".311"), Line("dspr layer 3", ".752"), Line("rank 8, layer 3", ".582"), Line("chain", ".428"),
    Line("layer 3 - chain", ".232", 0.15), Line("layer 3 - random weights", ".235", 0.15),
    Line("chain - layer 6", ".117", 0.0), Line("root accuracy layer 3", ".594"), Line("first verb is root", ".646"),
    Line("nspr layer 3", ".768"), Line("jabberwocky layer 3", ".568"), Line("jabberwocky drop", ".092", 0.05, 0.15),
    Line("jabberwocky drop, random weights", "-.001", None, 0.02),
    Line("jabberwocky - chain", ".140", 0.08), Line("seconds a layer", "5-8", None, 16),
]  # fmt: skip
POINCARE = [
    Line("Poincare layer 3", ".693"), Line("Poincare - Euclidean", ".033", -0.01),
    Line("Poincare random weights", ".449"), Line("its gain", ".024"), Line("DSpr", ".773"),
    Line("its gain, DSpr", ".021"), Line("jabberwocky", "not measured"),
]  # fmt: skip
BLIMP = [
    Line("accuracy", ".739", 0.68, 0.80), Line("accuracy per token", ""), Line("random weights", ".485", 0.4, 0.6),
    Line("shuffled words", ".433"), Line("unigram", ""), Line("shorter", ""), Line("islands", ".46", None, 0.6),
    Line("seconds a pair", "0.3"),
]  # fmt: skip
DEPENDENCY = [
    Line("layer 0", ".699"), Line("layer 2", ".821"), Line("layer 3", ".832"), Line("layer 4", ".805"),
    Line("layer 6", ".643"), Line("layer 3 - layer 0", ".133", 0.08), Line("random weights", ".51", None, 0.56),
    Line("majority", ".109"), Line("mixture", "not measured"), Line("mixture, random weights", ""),
    Line("centre of gravity", "not measured"), Line("centre, random weights", ""), Line("seconds", "60", None, 120),
]  # fmt: skip
ENTITIES = [
    Line("layer 0", ".670"), Line("layer 2", ".710"), Line("layer 4", ".726"), Line("layer 6", ".664"),
    Line("random weights", ".44"), Line("majority", ".339"), Line("mixture", "not measured"),
    Line("mixture, random weights", ""), Line("centre of gravity", "not measured"),
    Line("centre, random weights", ""),
]  # fmt: skip
# Van Aken's tasks: the prototype had none of them.
TASKS, EDGES = (
    [
        Line(f"{task}{what}", "not measured" if not what else "")
        for task in tasks
        for what in ("", ", best layer", ", layer 0", ", random weights", ", usual label", ", majority",
                     ", centre of gravity", ", centre, random weights")
    ]
    for tasks in (("relation", "question-type", "evidence"), ("pos", "constituents", "coreference"))
)  # fmt: skip
PRONOUNS = [
    Line(name, "not measured" if name == "accuracy" else "")
    for name in ("accuracy", "best layer", "zero shot", "recency", "first mention", "places", "random weights",
                 "layer 0", "pronouns tested")
]  # fmt: skip
GAP = [
    Line("layer 0", ".517", 0.44, 0.56), Line("layer 2", ".677"), Line("layer 3", ".723", 0.65),
    Line("layer 4", ".708"), Line("layer 6", ".693"), Line("zero-shot, least", ".46"),
    Line("zero-shot, most", ".54", None, 0.56), Line("nearest", ".485"), Line("places", "not measured"),
    Line("random weights, least", ".47", 0.44, 0.56), Line("random weights, most", ".49", 0.44, 0.56),
    Line("seconds", "73", None, 146),
]  # fmt: skip
FACTS = [
    Line("p_at_1", ".480"), Line("mrr", ".593"), Line("full vocabulary", ".147"), Line("majority", ".313"),
    Line("random weights", ".067"), Line("nonsense", ""), Line("seconds", "152", None, 304),
]  # fmt: skip
EXTRACTION = [Line("plain seconds", ""), Line("read seconds", ""), Line("read / plain", "", None, 1.1)]
SOLVER = [
    Line("seconds, all at once", ""), Line("seconds, scikit-learn", ""), Line("times faster", "", 5.0),
    Line("largest loss of accuracy", "", None, 0.005), Line("largest gain of accuracy", ""),
]  # fmt: skip
CODES = [
    Line("ours, task", "7.78"), Line("ours, control", "1.23", None, 1.5), Line("C = 10, task", ""),
    Line("C = 10, control", ""), Line("150 full-batch steps, task", "7.78"),
    Line("150 full-batch steps, control", "1.23"), Line("frequencies, control", ""), Line("word types, control", ""),
]  # fmt: skip
HEADS = [
    Line("obj", ".763", 0.65), Line("obj, offset", ".342"), Line("obj - offset", ".421", 0.25),
    Line("case", ".675"), Line("case, offset", ".376"), Line("det", ".787"), Line("det, offset", ".567"),
    Line("nsubj", ".557"), Line("nsubj, offset", ".344"), Line("amod", ".746"), Line("amod, offset", ".772"),
    Line("compound", ".766"), Line("compound, offset", ".766"), Line("best head", ".468"),
    Line("best offset", ".348"), Line("random weights, most", ".14"),
    Line("attention-only probe", "not measured"), Line("probe of offsets", ""), Line("probe, random weights", ""),
    Line("relations beaten by an offset", ""), Line("seconds", "50", None, 100),
]  # fmt: skip
PATTERNS = [
    Line("drawn accuracy", "", 0.9), Line("minilm vertical", ".51"), Line("minilm heterogeneous", ".36"),
    Line("minilm vertical-diagonal", ".08"), Line("minilm uniform", ".03"), Line("minilm diagonal", ".01"),
    Line("minilm block", ""), Line("minilm consistency", ".77"), Line("independent", ""),
    Line("random weights uniform", "1.00"), Line("shuffled rows heterogeneous", ""),
]  # fmt: skip
PRUNING = [
    Line("all heads", ".85"), Line("least, half", ".857"), Line("random, half", ".759"), Line("most, half", ".690"),
    Line("least - random", ".098", 0.0), Line("random - most", ".069", 0.0),
    Line("shuffled labels, half", "not measured"), Line("least, third", ".863"), Line("random, third", ".824"),
    Line("most, third", ".783"), Line("least, sixth", ".873"), Line("random, sixth", ".848"),
    Line("most, sixth", ".837"),
    *(Line(f"loss, {what}", "") for what in ("all heads", "least, half", "random, half", "most, half")),
    *(Line(line.format(kind), "not measured")
      for kind in ("vertical", "diagonal", "vertical-diagonal", "block", "uniform", "heterogeneous")
      for line in ("{} heads", "without {}", "random for {}")),
]  # fmt: skip
TRACE = [
    Line(f"{trace}{what}", "")
    for trace in ("last_layer", "rollout", "back_trace")
    for what in ("", ", random weights", ", deleted")
] + [Line(name, "") for name in ("tokens of a word", "random order", "random order, deleted", "tokens, deleted")]
PROMPTING = [
    Line(name, "not measured")
    for name in ("zero_shot", "zero_shot_least", "zero_shot_most", "zero_shot_chosen", "few_shot", "few_shot_least",
                 "few_shot_most", "few_shot_chosen", "diagnostic")
] + [
    Line(name, "")
    for name in ("spread_templates", "spread_orders", "nonsense", "wrong labels", "same examples", "majority",
                 "random weights", "random weights, few_shot", "random weights, diagnostic")
]  # fmt: skip
PREFIX = [
    Line(name, "not measured")
    for name in ("prefix", "prefix, random weights", "diagnostic", "diagnostic, random weights", "zero_shot",
                 "majority")
]  # fmt: skip
WORDINGS = [
    Line("P36, best wording", ".75"), Line("P36, worst wording", ".33"), Line("P36, answers that agree", ""),
    Line("P36, nonsense", ".20"), Line("P36, majority", ".05"), Line("P36, random weights", ""),
    Line("P103, best wording", ".80"), Line("P103, worst wording", ""), Line("P103, answers that agree", ""),
    Line("P103, nonsense", ".85"), Line("P103, majority", ".65"), Line("P103, random weights", ""),
]  # fmt: skip
HYPERNYMS = [
    Line("kind", ".89"), Line("kind, full vocabulary", ".33"), Line("denied, still the kind", ".83"),
    Line("denied, full vocabulary", ""), Line("majority", ""), Line("random weights", ""),
]  # fmt: skip
SEARCH = [
    Line(f"{search}{what}", "" if what else "not measured")
    for search in ("first_pattern", "paraphrase", "mined", "discrete", "continuous")
    for what in ("", ", random weights", ", shuffled facts", ", majority")
] + [Line("facts", ""), Line("hard facts", "")]
UNTRAINED = [
    Line(f"{what}, {name}", "")
    for what in ("all", "all, 3,000 pairs", "subtypes", "without punctuation")
    for name in ("minilm, layer 0", "minilm, layer 3", "untrained 1, layer 0", "untrained 1, layer 3",
                 "untrained 2, layer 0", "untrained 2, layer 3", "majority")
]  # fmt: skip
MARVIN = [
    Line("accuracy", ".716"), Line("accuracy per token", ""), Line("simple agreement", ".88"),
    Line("across an object relative, least", ".50"), Line("across an object relative, most", ".62"),
    Line("random weights", ""), Line("shuffled words", ""), Line("unigram", ""), Line("shorter", ""),
    Line("pairs", "176"),
]  # fmt: skip
