"""Every acceptance line of the methods on units and concepts: what was expected, what we find, and its controls.

    python benchmarks/neurons_concepts.py                                  # all of minilm; goes on where it stopped
    python benchmarks/neurons_concepts.py rankings gaussian --seeds 3
    python benchmarks/neurons_concepts.py rankings --model smollm2 --site blocks.9.hook_resid_post --seeds 1
    python benchmarks/neurons_concepts.py --table                          # only print what is finished

The data are those that TRACEMEND_DATA names (ud_ewt, sst2, tcav_text, neuron_puzzles, snli_dev). Expected figures are
measurements of small prototypes of the same methods on the same data, made before these were written; where a line says
what must hold, that was fixed with them. Settings are the methods' defaults or those of the prototype. The figures of a
finished part lie in ``benchmarks/results/neurons_concepts``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Run as a file, a benchmark does not find its own package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.concepts import adjectives, decoder_sentiment, of_module, of_null_themes, sentiment
from benchmarks.inference import inference
from benchmarks.neurons import puzzles
from benchmarks.setting import Setting
from benchmarks.side_by_side import Line, table
from tracemend.concepts import Tcav
from tracemend.data import read_conllu
from tracemend.data.reference import reference_folder
from tracemend.models import load
from tracemend.neurons import (
    Ablation,
    Composition,
    Correlation,
    Explain,
    ExplanationResult,
    GaussianRanking,
    LinearRanking,
)  # fmt: skip
from tracemend.runs import read_json, versions, write_json

KEPT = Path(__file__).parent / "results" / "neurons_concepts"


def rankings(at: Setting) -> list[Line]:
    """Number of nouns: first, random and last units of every ranking, beside the untrained network."""
    began = time.process_time()
    method = LinearRanking(**at.words, sizes=(8, 20, 50), at=50, against=("linear", "probeless", "average-precision"))
    found = method.run(*at.loaded)
    seconds = time.process_time() - began
    expected = {
        ("linear", 8): ".826, last .765, random .766", ("linear", 20): ".916, last .786, random .783",
        ("linear", 50): ".953, last .831, random .858", ("probeless", 8): ".837, last .763, random .766",
        ("probeless", 20): ".892, last .763, random .783", ("probeless", 50): ".924, last .763, random .858",
        ("average-precision", 8): ".837, random .766", ("average-precision", 20): ".861, random .783",
        ("average-precision", 50): ".918, random .858",
    }  # fmt: skip
    lines = []
    for row in found.table().to_dict("records"):
        top, random, bottom = (float(row[name]) for name in ("top", "random", "bottom"))
        asked = row["k"] == 50
        lines.append(
            Line(
                name=f"accuracy, first {row['k']} by {row['ranking']}",
                expected=expected[str(row["ranking"]), int(row["k"])] + ("; first > random > last" if asked else ""),
                found=top,
                controls={"random": random, "last": bottom, "untrained": float(row["random_weights"])},
                holds=top > random > bottom if asked else None,
            )
        )
    own: dict[int, Any] = {row["k"]: row for row in found.table().to_dict("records") if row["ranking"] == "linear"}
    for k, said in ((8, ".106"), (50, ".200, untrained .03")):
        controls = {"random": own[k]["random_selectivity"], "last": own[k]["bottom_selectivity"]}
        if k == 50:
            controls["untrained"] = float(found.controls["random_weights"]["selectivity"])
        lines.append(
            Line(
                name=f"selectivity, first {k} by linear", expected=said, found=own[k]["selectivity"],
                controls=controls,
            )
        )  # fmt: skip
    whole = {"untrained": float(found.controls["random_weights"]["all"])}
    whole["majority"] = float(found.controls["majority"]["accuracy"])
    lines.append(
        Line(name="accuracy, all units", expected=".973, untrained .789", found=found.metrics["all"], controls=whole)
    )
    lines.append(
        Line(name="seconds of processor, the whole table", expected="under 120", found=seconds, holds=seconds < 120)
    )  # fmt: skip
    return lines


def gaussian(at: Setting) -> list[Line]:
    """Share of the entropy of Number that the chosen units tell."""
    began = time.process_time()
    found = GaussianRanking(**at.words, dims=10, at=10).run(*at.loaded)
    seconds = time.process_time() - began
    rows = found.table().reset_index(drop=True)
    lines = [
        Line(name=f"NMI, {k} units by Gaussian probing", expected=said, found=float(rows["nmi"][k - 1]))
        for k, said in ((1, ".03"), (2, ".09"), (5, ".25"))
    ]
    own, fresh = found.metrics["nmi"], float(found.controls["random_weights"]["nmi"])
    controls = {"untrained": fresh, "random units": float(found.controls["random_units"]["nmi"]),
                "random labels": float(found.controls["control_task"]["nmi"])}  # fmt: skip
    lines.append(
        Line(
            name="NMI, 10 units by Gaussian probing", expected=".42; above .35, untrained about 0", found=own,
            controls=controls, holds=own > 0.35 and fresh < 0.1,
        )
    )  # fmt: skip
    lines.append(Line(name="seconds of processor, with the controls", expected="under 120", found=seconds,
                      holds=seconds < 120))  # fmt: skip
    return lines


def ablation(at: Setting) -> list[Line]:
    """What fifty units cost that are set to their mean."""
    lines = []
    model, bank = at.loaded
    for order, said in (("linear", ".091 of .973, last .001"), ("probeless", ".099 of .973, last .004")):
        found = Ablation(**at.words, order=order, sizes=(50,), at=50, sentences=1).run(model, bank)
        own, last = found.metrics["accuracy_fall"], float(found.controls["last"]["accuracy_fall"])
        lines.append(
            Line(
                name=f"accuracy lost without the first 50 by {order}", expected=f"{said}; first > 5 x last", found=own,
                controls={arm: float(of["accuracy_fall"]) for arm, of in found.controls.items()},
                holds=own > 5 * max(last, 0.0),
            )
        )  # fmt: skip
        if "language_rise" in found.metrics:
            lines.append(
                Line(
                    name=f"rise of the language loss without the first 50 by {order}", expected="",
                    found=found.metrics["language_rise"],
                    controls={arm: float(of["language_rise"]) for arm, of in found.controls.items()},
                )
            )  # fmt: skip
    return lines


def correlation(at: Setting) -> list[Line]:
    """Units that minilm and smollm2 share."""
    words = {**at.words, "train_items": 3_000, "test_items": 1_000}
    method = Correlation(**words, other="smollm2", other_site="blocks.9.hook_resid_post", sizes=(1, 50), at=50)
    found = method.run(*at.loaded)
    said = {"correlation": ".212, untrained .168, shuffled .056", "correlation_p95": ".351, untrained .242",
            "correlation_max": ".831, untrained .336"}  # fmt: skip
    lines = []
    for name, expected in said.items():
        controls = {arm: float(found.controls[arm][name]) for arm in ("random_weights", "shuffled")}
        holds = found.metrics[name] > max(controls.values()) if name != "correlation" else None
        lines.append(Line(name=f"{name.replace('_', ' ')} with smollm2", expected=expected, found=found.metrics[name],
                          controls=controls, holds=holds))  # fmt: skip
    return lines


def puzzle(at: Setting) -> list[Line]:
    """Hand-made units with known explanations, simulated by likeness."""
    del at
    found = puzzles()
    first = found["first"]
    return [
        Line(name="puzzles, true explanation first of 19", expected=".58; at least .45", found=first,
             controls={"chance": 1 / 19}, holds=first >= 0.45),
        Line(name="puzzles, among the first three", expected=".74", found=found["third"], controls={"chance": 3 / 19}),
        Line(name="puzzles, above false ones made to mislead", expected=".21, no better than chance",
             found=found["above_false"], controls={"chance": 0.25}),
        Line(name="score of the true activations", expected="1", found=found["true"],
             controls={"constant": found["constant"]}, holds=abs(found["true"] - 1) < 1e-9),
        Line(name="score of shuffled activations", expected="0 +- .1", found=found["shuffled"],
             holds=abs(found["shuffled"]) < 0.1),
    ]  # fmt: skip


def explain(at: Setting) -> list[Line]:
    """Sixty neurons in words, with the embedded explainer."""
    return explained(Explain(site=at.mlp, seed=at.seed, ablated=20).run(*at.loaded))


def explained(found: ExplanationResult) -> list[Line]:
    """Figures of explanations with their controls."""
    lines = []
    for name in ("score", "detection", "fuzzing", "ablation"):
        controls = {arm: float(of[name]) for arm, of in found.controls.items() if name in of}
        asked = {"score": "above another unit's and shuffled", "ablation": "above another unit's and shuffled"}
        others = [controls[arm] for arm in ("other_unit", "shuffled") if arm in controls]
        holds = found.metrics[name] > max(others) if name in asked else None
        lines.append(Line(name=f"explanations, {name}", expected=asked.get(name, ""), found=found.metrics[name],
                          controls=controls, holds=holds))  # fmt: skip
    return lines


def formulas(at: Setting, **other: Any) -> list[Line]:
    """Neurons as formulas of features of words."""
    options: dict[str, Any] = {"neurons": 60, "train_items": 6_500, "test_items": 3_200, "draws": 1} | other
    method = Composition(site=at.mlp, seed=at.seed, **options)
    found = method.run(*at.loaded)
    own, fresh, dealt = found.metrics, found.controls["random_weights"], found.controls["shuffled"]
    return [
        Line(name="features to choose from", expected="148", found=float(found.facts["features"])),
        Line(name="IoU held out, one feature", expected=".091", found=own["iou_1"],
             controls={"untrained": fresh["iou_1"], "shuffled": dealt["iou_1"]}),
        Line(name="IoU held out, three features", found=own["iou"],
             expected=".118, untrained .099, shuffled .011; no less than one feature, shuffled under .03",
             controls={"training": own["train_iou"], "untrained": fresh["iou"], "shuffled": dealt["iou"]},
             holds=own["iou"] >= own["iou_1"] and dealt["iou"] < 0.03),
        Line(name="share of neurons above .2", found=own["explained"],
             expected=".17, untrained .05, shuffled 0; twice the untrained",
             controls={"untrained": fresh["explained"], "shuffled": dealt["explained"]},
             holds=own["explained"] > 0 and own["explained"] >= 2 * fresh["explained"]),
    ]  # fmt: skip


def formulas_of_few(at: Setting) -> list[Line]:
    """The same with about as many features as the prototype had: tags, 60 forms and 60 lemmas, no neighbours."""
    return formulas(at, features=60, near=False)


def formulas_of_many(at: Setting) -> list[Line]:
    """Five times as many neurons: a share of 60 is known to 0.05 or so, one of 300 to 0.02."""
    return formulas(at, neurons=300)


def formulas_of_tags(at: Setting) -> list[Line]:
    """As many, but of tags and looks alone (one form and one lemma are the least): what is said of classes of words."""
    return formulas(at, neurons=300, features=1, near=False)


def tcav(at: Setting) -> list[Line]:
    """Adjectives and the label positive, at layer 4."""
    classifier, test, accuracy = sentiment(at.seed) if at.model == "minilm" else decoder_sentiment(at.model, at.seed)
    data = adjectives(test, n=40, seed=at.seed)
    layers = {at.layer(i): i for i in (2, 4, 5)}
    found = Tcav(label="positive", layers=tuple(layers), at=at.layer(4), seed=at.seed).run(classifier, data)
    of_random = found.table()[found.table()["against"] == "random"]
    rows: dict[Any, Any] = {(row["concept"], layers[row["layer"]]): row for row in of_random.to_dict("records")}
    lines = [Line(name="TCAV, accuracy of the classifier", expected=".79", found=accuracy)]
    said = {("positive adjectives", 2): ".96", ("positive adjectives", 4): ".98; at least .85",
            ("positive adjectives", 5): ".99", ("negative adjectives", 2): ".50",
            ("negative adjectives", 4): ".00; at most .2", ("negative adjectives", 5): ".00"}  # fmt: skip
    for (concept, layer), expected in said.items():
        row = rows[concept, layer]
        score, holds = float(row["score"]), None
        if layer == 4:
            holds = score >= 0.85 if concept.startswith("positive") else score <= 0.2
        lines.append(Line(name=f"TCAV, {concept}, layer {layer}", expected=expected, found=score,
                          controls={"random vectors": float(row["random"]), "p": float(row["p_holm"]),
                                    "random ones and itself as far": float(row["beyond"])}, holds=holds))  # fmt: skip
    relative = found.table().query("concept == 'positive adjectives' and against == 'negative adjectives'")
    lines += [
        Line(name=f"TCAV, positive against negative, layer {layers[row['layer']]}, slope", expected="",
             found=float(row["slope"]), controls={"random pairs and itself as far": float(row["beyond"])})
        for row in relative.to_dict("records")
    ]  # fmt: skip
    for figure, of in (("shown", "shown"), ("shown_relative", "relative vectors shown")):
        untrained = float(found.controls["random_weights"][figure])
        lines.append(Line(name=f"TCAV, {of} in an untrained network, layer 4", expected="0", found=untrained,
                          holds=untrained == 0))  # fmt: skip
    random = float(rows["positive adjectives", 4]["random"])
    lines.append(Line(name="TCAV, random vectors, layer 4", expected=".60; .3 to .8", found=random,
                      holds=0.3 <= random <= 0.8))  # fmt: skip
    return lines


def sasc(at: Setting) -> list[Line]:
    """Made-up modules in words."""
    lines, named, scores = [], [], []
    for name in ("food", "religion", "sports", "business", "war", "animals"):
        # Each module takes a minute or more, and is not measured again.
        path = Path("benchmarks/out") / f"sasc-{name}-{at.seed}.json"
        if not path.exists():
            found, right = of_module(name, load("minilm"), _corpus(), at.seed)
            line = Line(
                name=f"SASC, {name}: {found.facts['explanation']}", expected="named", found=found.metrics["score"],
                controls={arm: float(of["score"]) for arm, of in found.controls.items()}, holds=right,
            )  # fmt: skip
            path.parent.mkdir(exist_ok=True)
            write_json(path, asdict(line))
        line = Line(**read_json(path))
        named.append(bool(line.holds))
        scores.append(line.found)
        lines.append(line)
    hits = [score for score, right in zip(scores, named, strict=True) if right]
    middle = float(np.median(hits)) if hits else float("nan")
    return [
        *lines,
        Line(name="SASC, modules named of 6", expected="5; at least 4", found=float(sum(named)), holds=sum(named) >= 4),
        Line(name="SASC, median score of these", expected="2.8 to 6.6; above 2", found=middle, holds=middle > 2),
    ]


def sasc_random(at: Setting) -> list[Line]:
    """A direction at random, which stands for nothing."""
    found, _ = of_module("random 0", load("minilm"), _corpus(), at.seed)
    score, shown = found.metrics["score"], found.findings[0].startswith("The best")
    controls = {arm: float(of["score"]) for arm, of in found.controls.items()}
    controls["largest of ten random directions"] = max(found.facts["direction_scores"])
    return [
        Line(name=f"SASC, random direction: {found.facts['explanation']}", expected="under 1, or not shown",
             found=score, controls=controls, holds=score < 1 or not shown)
    ]  # fmt: skip


def sasc_null(at: Setting) -> list[Line]:
    """Random directions on themes at random, of which the largest score is taken."""
    found = of_null_themes(load("minilm"), _corpus(), at.seed)
    return [Line(name=f"SASC, random directions, {name}", expected="", found=value) for name, value in found.items()]


def of_pairs(at: Setting) -> list[Line]:
    """Units of a classifier of sentence pairs."""
    return inference(at.seed)


def _corpus() -> list[str]:
    bank = read_conllu(reference_folder("ud_ewt") / "train-4k.conllu")
    return [" ".join(sentence.words) for sentence in bank.sentences]


# Seeds that a part has a use for: a part without chance in it has one.
PARTS: dict[str, tuple[Callable[[Setting], list[Line]], int]] = {
    "rankings": (rankings, 3),
    "gaussian": (gaussian, 3),
    "ablation": (ablation, 3),
    "correlation": (correlation, 1),
    "puzzles": (puzzle, 1),
    "explain": (explain, 3),
    "formulas": (formulas, 3),
    "formulas-few": (formulas_of_few, 3),
    "formulas-many": (formulas_of_many, 3),
    "formulas-tags": (formulas_of_tags, 3),
    "inference": (of_pairs, 3),
    "tcav": (tcav, 3),
    "sasc": (sasc, 3),
    "sasc-random": (sasc_random, 3),
    "sasc-null": (sasc_null, 3),
}


def main() -> None:
    """Measure what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("only", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--model", default="minilm", help="of rankings, gaussian, ablation, explain, formulas and tcav")
    parser.add_argument("--site", default="blocks.1.hook_resid_post", help="of rankings, gaussian and ablation")
    parser.add_argument("--train-items", type=int, default=5_000)
    parser.add_argument("--test-items", type=int, default=1_200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for name in [] if given.table else given.only or PARTS:
        measure, most = PARTS[name]
        for seed in range(given.first_seed, min(given.first_seed + given.seeds, most)):
            path = KEPT / f"{name}-{given.model}-{seed}.json"
            if path.exists():
                continue
            at = Setting(given.model, given.site, given.train_items, given.test_items, seed)
            began = time.process_time()
            lines = [asdict(line) for line in measure(at)]
            seconds = round(time.process_time() - began, 1)
            write_json(path, {"lines": lines, "setting": asdict(at), "seconds": seconds, "versions": versions()})
            print(f"{name}, {given.model}, seed {seed}: {seconds} s", flush=True)
    print(table(KEPT, given.only or list(PARTS)))


if __name__ == "__main__":
    main()
