"""Figures of feed-forward layers for ``benchmarks.circuits``: edits, memories, value vectors, planted features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from tracemend.circuits import Edit, Features, Memories, Subupdates
from tracemend.circuits.sae import Kind
from tracemend.circuits.sae_training import SaeTraining
from tracemend.circuits.superposition import Superposition, principal_directions, random_directions
from tracemend.data import reference
from tracemend.data.prompts import Texts
from tracemend.data.reference import reference_folder
from tracemend.data.rewrites import Rewrites, reference_rewrites
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel

# name, expected (None: no reference), found, control (None: none)
Line = tuple[str, Any, Any, Any]
# Native and spoken languages, languages of works, continents, countries, makers, owners.
_RELATIONS = ("P103", "P1412", "P364", "P407", "P30", "P17", "P495", "P176", "P127", "P178")


def edit(model: LanguageModel) -> list[Line]:
    """Ten facts that the model knows, each given another object of its relation."""
    method = Edit(tokens=4096, held_out=256, prefixes=4, prefix=5)
    found = method.run(model, known_facts(model, 10).within(plain_texts()))
    m, before, other = found.metrics, found.controls["before"], found.controls["other key"]
    rows = found.table()
    rows = rows[rows["arm"] == "edited"]
    lines: list[Line] = [("facts edited", 10, m["facts"], None)]
    for name, expected in (("efficacy", ">= 0.8"), ("p_target", None), ("paraphrases", None), ("neighbours", ">= 0.9"),
                           ("preferred", None), ("nll", "< 0.01"), ("nll_largest", None)):  # fmt: skip
        lines.append((name, expected, m[name], f"{other[name]:.3f}, before {before[name]:.3f}"))
    lines += [
        (f"  {row['prompt'][:28]} {row['target']}", None, f"p {row['p_target']:.2f}", f"nll {row['nll']:+.4f}")
        for row in rows.to_dict("records")
    ]
    return lines


def memories(model: LanguageModel) -> list[Line]:
    """Every seventh layer, three keys of each, on 2,048 tokens of English web text."""
    method = Memories(tokens=2048, stride=7, keys=3, removals=2, positions=32)
    found = method.run(model, Texts.make([{"text": text} for text in plain_texts()]))
    m, c, lines = found.metrics, found.controls, list[Line]()
    for end in ("lower", "upper"):
        first, other = (c[arm][f"kept_{end}"] for arm in ("first token", "random token"))
        lines.append((f"kept without the last token, {end}", None, m[f"kept_{end}"], f"{first:.3f} {other:.3f}"))
    for end in ("lower", "upper"):
        chance = c["shuffled values"][f"agreement_{end}"]
        lines.append((f"agreement, {end}", ">= 10 x control" if end == "upper" else None,
                      f"{m[f'agreement_{end}']:.5f}", f"{chance:.5f}"))  # fmt: skip
    lines.append(("composed", ">= 0.68", m["composed"], c["shuffled coefficients"]["composed"]))
    for row in found.table().to_dict("records"):
        kept = " ".join(f"{row[f'kept_{part}']:.2f}" for part in ("last", "first", "random"))
        agreed = f"{row['agreement']:.4f} / {row['agreement_shuffled']:.4f}"
        lines.append((f"layer {row['layer']}: kept (last, first, random)", None, kept, agreed))
    for row in found.examples.query("rank == 1").to_dict("records"):
        lines.append((f"L{row['layer']} {row['key']}: ...{row['text'][-30:]!r}", None, row["next"], row["value"][:60]))
    return lines


def subupdates(model: LanguageModel) -> list[Line]:
    """Every seventh layer, 60 value vectors of each."""
    method = Subupdates(stride=7, neurons=60, steered=12, tokens=256)
    found = method.run(model, Texts.make([{"text": text} for text in plain_texts()]))
    m, c, lines = found.metrics, found.controls, list[Line]()
    for name in m:
        chance = " ".join(f"{arm[name]:.3f}" for arm in c.values() if name in arm)
        lines.append((name, None, m[name], chance))
    for row in found.layers.to_dict("records"):
        pairs = [f"{row[name]:.3f} / {row[f'{name}_random']:.3f}" for name in ("coherence", "above", "raw")]
        lines.append((f"layer {row['layer']}: coherence, above, raw", None, f"{pairs[0]} {pairs[1]}", pairs[2]))
    for row in found.table().head(8).to_dict("records"):
        lines.append((f"L{row['layer']} {row['neuron']} {row['tokens'][:70]}", None, row["coherence"], row["own"]))
    return lines


def features(model: LanguageModel, *, short: bool = False) -> list[Line]:
    """2,304 latents, 32 at once, of the stream after block 15, on film reviews; 2,048 other tokens for the figures.

    Short: 1,152 latents, half of the texts and steps, and 1,024 other tokens.
    """
    frame = reference("sst2").frame
    joined = [" ".join(frame["text"][i : i + 14]) for i in range(0, len(frame), 14)]
    how = Features(latents=1152, steps=600, tokens=12288, held_out=1024) if short else Features()
    found = how.run(model, Texts.make([{"text": text} for text in joined]))
    m, c, rows = found.metrics, found.controls, found.table()
    pca, random = c["pca"], c["random"]
    least = m["ce_recovered"] - max(pca["ce_recovered"], random["ce_recovered"])
    lines: list[Line] = [
        ("L0", 32, m["l0"], None),
        ("FVU", 0.27, m["fvu"], None),
        ("  principal components", 0.54, None, pca["fvu"]),
        ("  random directions", 0.74, None, random["fvu"]),
        ("loss, clean", 4.30, None, c["clean"]["loss"]),
        ("loss, mean in its place", 9.37, None, c["mean"]["loss"]),
        ("loss, reconstruction in its place", 4.65, m["loss"], None),
        ("CE recovered", 0.93, m["ce_recovered"], None),
        ("  principal components", 0.72, None, pca["ce_recovered"]),
        ("  random directions", 0.42, None, random["ce_recovered"]),
        ("  lead over the better control", ">= 0.15", least, None),
        ("dead", 0.0, m["dead"], None),
        ("density, median", None, m["density"], None),
    ]
    return lines + [
        (f"{row['feature']}: ...{row['examples'][:60]!r}", None, row["raises"][:60], row["ablation"])
        for row in rows.head(6).to_dict("records")
    ]


def superposition(model: LanguageModel, *, seeds: Sequence[int] = (1, 2, 3)) -> list[Line]:
    """128 planted features, 4 at once, in 32 dimensions; 256 latents. Settings were chosen with seed 0."""
    lines: list[Line] = []
    cases: tuple[tuple[Kind, float, float], ...] = (("topk", 0, 3e-3), ("l1", 1.5, 1e-2), ("l1", 1.5, 3e-3),
                                                    ("l1", 0.15, 1e-2))  # fmt: skip
    truths = [Superposition.draw(features=128, width=32, active=4, seed=seed) for seed in seeds]
    data = [truth.sample(200_000, seed=seed)[0] for truth, seed in zip(truths, seeds, strict=True)]
    for kind, l1, rate in cases:
        how = SaeTraining(kind=kind, latents=256, k=6, l1=l1, steps=1500, batch=512, rate=rate)
        found = [replace(how, seed=seed).fit(x).w_dec for seed, x in zip(seeds, data, strict=True)]
        name = f"{kind} {l1 or ''}, rate {rate:g}: share; mean cosine"
        lines.append((name, ">= 0.95", _recovered(truths, found), None))
    controls = {
        "principal components": [principal_directions(x, 256) for x in data],
        "random directions": [random_directions(32, 256, seed=seed) for seed in seeds],
    }
    for name, directions in controls.items():
        lines.append((f"{name}: share; mean cosine", "< 0.5", None, _recovered(truths, directions)))
    return lines


def _recovered(truths: Sequence[Superposition], found: Sequence[Tensor]) -> str:
    """Smallest and largest over the draws."""
    pairs = zip(*(truth.recovered(each) for truth, each in zip(truths, found, strict=True)), strict=True)
    return "; ".join(f"{min(values):.3f} to {max(values):.3f}" for values in pairs)


def known_facts(model: LanguageModel, count: int, *, skip: int = 0) -> Rewrites:
    """Facts with p >= 0.3 and objects of one token, six of a relation at most: few but native tongues are known."""
    from tracemend.circuits.edit import next_logits
    from tracemend.circuits.tokens import token_of

    kept: list[Any] = []
    relations = Counter[str]()
    usable = []
    for row in reference_rewrites(_RELATIONS, neighbours=3).frame.to_dict("records"):
        try:
            answer, _ = (token_of(model, row["prompt"], row[column]) for column in ("answer", "target"))
        except CircuitError:
            continue
        usable.append((row, answer))
    for begin in range(0, len(usable), 32):
        batch = usable[begin : begin + 32]
        said = next_logits(model, [row["prompt"] for row, _ in batch]).softmax(-1)
        for (row, answer), p in zip(batch, said, strict=True):
            if p[answer] >= 0.3 and relations[row["relation"]] < 6:
                kept.append(row)
                relations[row["relation"]] += 1
        if len(kept) >= count + skip:
            break
    return Rewrites.make(kept[skip : skip + count])


def plain_texts(part: str = "train-4k", *, sentences: int = 4) -> list[str]:
    """Sentences of English web text, four to a text."""
    lines = (reference_folder("ud_ewt") / f"{part}.conllu").read_text(encoding="utf-8").splitlines()
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    return [" ".join(texts[i : i + sentences]) for i in range(0, len(texts), sentences)]
