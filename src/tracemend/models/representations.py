"""Vectors of words and sentences at every layer: extracted once, kept in shards, shared by all that ask."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.arrays import Indices
from tracemend.errors import ModelError
from tracemend.fields import check_choice
from tracemend.models.hooks import capture, edit
from tracemend.models.language_model import LanguageModel
from tracemend.models.shards import ShardFile, digest, write_shard
from tracemend.models.sites import sites
from tracemend.progress import Progress
from tracemend.runs import fingerprint, read_json, write_json

Unit = Literal["word", "sentence"]
Pooling = Literal["mean", "first", "last"]

SCHEMA = 1
SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Representations:
    """Vectors of words or sentences at every layer.

    Attributes:
        hidden: [layers + 1, n, d], float32 on the CPU; layer 0 is the embeddings (with positions, where these are
            added), layer l the output of block l as transformers' ``hidden_states`` gives it.
        sentence: the sentence of each vector [n].
        word: its place in the sentence [n]; 0 where a vector is a sentence's.
        model: fingerprint of the model.
    """

    hidden: Tensor
    sentence: Indices
    word: Indices
    model: str

    def __len__(self) -> int:
        return int(self.hidden.shape[1])

    @property
    def layers(self) -> int:
        """Layers with the embeddings."""
        return int(self.hidden.shape[0])


@dataclass(frozen=True, eq=False)
class Alignment:
    """The tokens of sentences and the unit that each belongs to.

    Attributes:
        ids: token ids of each sentence.
        unit: of each token the word (or 0, for a sentence); -1 where it is in none: CLS, SEP, bos.
    """

    ids: list[list[int]]
    unit: list[Indices]


def align(
    model: LanguageModel, sentences: Sequence[Sequence[str]], *, unit: Unit = "word", pooling: Pooling = "mean"
) -> Alignment:
    """Tokenise sentences given as words, and say which word each token is of.

    Words are joined by one space, which is what byte-level and sentence-piece vocabularies expect before a word; a
    token is of the first word that ends behind its beginning, so that a space alone is of the word that follows.

    Args:
        unit: ``sentence`` counts all but special tokens as one unit; a list of one text per sentence does as well.
        pooling: with ``first`` on sentences the unit is the first token alone, CLS where there is one.

    Raises:
        ModelError: a sentence is longer than the model's window, has no word, or a word has no token; no such unit or
            pooling.
    """
    check_choice("unit", unit, get_args(Unit), ModelError)
    check_choice("pooling", pooling, get_args(Pooling), ModelError)
    texts = [" ".join(words) for words in sentences]
    found = model.tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True) if texts else None
    ids: list[list[int]] = []
    units: list[Indices] = []
    for i, words in enumerate(sentences):
        row = list(found["input_ids"][i]) if found is not None else []
        special = np.array(found["special_tokens_mask"][i] if found is not None else [], dtype=bool)
        if len(row) > model.window:
            raise ModelError(
                f"sentence {i + 1} ({_shown(texts[i])}) has {len(row)} tokens and the window of {model.name} is "
                f"{model.window}; leave it out or divide it."
            )
        if unit == "sentence":
            whole = np.where(special, -1, 0)
            if pooling == "first":
                whole = np.where(np.arange(len(row)) == 0, 0, -1)
            missing = not (whole == 0).any()
        else:
            whole = _words_of(np.array(found["offset_mapping"][i] if found is not None else []), special, words)
            missing = len(set(whole.tolist()) - {-1}) < len(words)
        if missing or not words:
            lost = sorted(set(range(len(words))) - set(whole.tolist()))
            what = f"its word {words[lost[0]]!r} has no token" if lost and unit == "word" else "it has no token"
            raise ModelError(
                f"sentence {i + 1} ({_shown(texts[i])}) does not align to the tokens of {model.name}: {what}; leave "
                "the sentence out, or the word."
            )
        ids.append(row)
        units.append(whole.astype(np.int64))
    return Alignment(ids, units)


def fits(model: LanguageModel, sentences: Sequence[Sequence[str]]) -> bool:
    """Whether no sentence, given as words, has more tokens than the model's window: what :func:`align` refuses."""
    return not too_long(model, sentences).any()


def too_long(model: LanguageModel, sentences: Sequence[Sequence[str]]) -> npt.NDArray[np.bool_]:
    """Which sentences, given as words, have more tokens than the model's window [s]."""
    texts = [" ".join(words) for words in sentences]
    counts = [len(ids) for ids in model.tokenizer(texts)["input_ids"]] if texts else []
    return np.array(counts, dtype=np.int64) > model.window


def represent(
    model: LanguageModel,
    sentences: Sequence[Sequence[str]],
    *,
    unit: Unit = "word",
    pooling: Pooling = "mean",
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
    cache: Path | None = None,
    progress: Progress = Progress(),
) -> Representations:
    """Vectors of every word (or sentence) at every layer.

    Args:
        model: of an encoder-decoder the encoder is read. In a decoder a word sees only the words before it.
        sentences: words of each; of raw texts, a list of one.
        unit: what gets a vector.
        pooling: of a unit's tokens: their mean, the first (of a sentence: CLS where there is one) or the last.
        layers: which, 0 for the embeddings; all by default.
        batch_size: sentences of a batch; they are sorted by length.
        cache: a folder; what lies there for the same model and sentences is read, all else is written, shard by
            shard, so that a stopped extraction goes on.

    Raises:
        ModelError: what :func:`align` refuses, no such layer, or a damaged shard.

    Example:
        >>> found = represent(load("minilm"), [["so", "it", "goes"], ["yes"]])
        >>> found.hidden.shape      # 6 layers and the embeddings, 4 words
        torch.Size([7, 4, 384])
    """
    aligned = align(model, sentences, unit=unit, pooling=pooling)
    sizes = np.array([int(units.max()) + 1 for units in aligned.unit], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = layer_count(model)
    wanted = list(range(total)) if layers is None else list(layers)
    if any(not 0 <= layer < total for layer in wanted):
        raise ModelError(f"layers {wanted} of {model.name}: it has 0 (embeddings) to {total - 1}.")
    shards = _shards(aligned.ids, sizes, batch_size, len(wanted) * model.hidden_size * 4)
    hidden = torch.empty(len(wanted), int(starts[-1]), model.hidden_size)
    folder = None
    if cache is not None:
        facts = {"unit": unit, "pooling": pooling, "layers": wanted, "batch_size": batch_size}
        folder = _open(cache, model, sentences, facts, len(shards))
    todo = list(range(len(shards)))
    for number in progress.track(todo, task=f"read {model.name}"):
        rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for batch in shards[number] for i in batch])
        part = _read(folder, number, rows) if folder is not None else None
        if part is None:
            part = torch.cat([_batch(model, aligned, batch, pooling, wanted) for batch in shards[number]], dim=1)
            if folder is not None:
                tensors = {"hidden": part.contiguous(), "row": torch.from_numpy(rows)}
                write_shard(_file(folder, number), tensors, {"store": folder.name, "shard": number})
        hidden[:, torch.from_numpy(rows)] = part
    sentence = np.repeat(np.arange(len(sizes)), sizes)
    return Representations(hidden, sentence, np.arange(len(sentence)) - starts[sentence], model.fingerprint)


def as_read(model: LanguageModel, hidden: Tensor, *, rms: float = 1.0) -> Tensor:
    """Vectors of the stream, all of one length where the network's blocks read them so, else as they are.

    A network with norms in front of its blocks (Llama, GPT-2, T5) reads the direction of a vector alone, and lets some
    grow a thousand times as long as the others (massive activations: Sun et al. 2024, arXiv 2402.17762); what is learnt
    on such vectors learns little else. One with norms behind its blocks (BERT) reads them as they are.

    Args:
        hidden: of any layers and units [..., d].
        rms: root mean square of each vector.

    Example:
        >>> as_read(tiny("gpt2"), torch.tensor([[3.0, 4.0]])).square().mean()
        tensor(1.)
    """
    if not any(one.name == "ln_final.hook_normalized" for one in sites(model)):
        return hidden
    return rms * hidden / hidden.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)


def _words_of(offsets: npt.NDArray[Any], special: npt.NDArray[np.bool_], words: Sequence[str]) -> Indices:
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    if not len(offsets):
        return np.zeros(0, dtype=np.int64)
    found = np.searchsorted(ends, offsets[:, 0], side="right")
    # A token of no characters is special, or what a vocabulary puts before a text (T5's underscore alone).
    empty = offsets[:, 0] == offsets[:, 1]
    return np.where(special | empty | (found >= len(words)), -1, found).astype(np.int64)


def layer_count(model: LanguageModel) -> int:
    """Blocks of the network, an encoder-decoder's encoder, and one for the embeddings."""
    config = model.config
    return int(getattr(config, "num_layers", None) or config.num_hidden_layers) + 1


def _network(model: LanguageModel) -> Any:
    return model.network.get_encoder() if model.family == "encoder-decoder" else model.network.base_model


def padded(model: LanguageModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids [b, t] padded on the right and their mask [b, t], on the model's device."""
    device = next(model.network.parameters()).device
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), int(model.tokenizer.pad_token_id))
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def _batch(
    model: LanguageModel, aligned: Alignment, batch: Sequence[int], pooling: Pooling, layers: Sequence[int]
) -> Tensor:
    """Pooled vectors of a batch [layers, units, d], sentence after sentence."""
    ids, mask = padded(model, [aligned.ids[i] for i in batch])
    place, unit, start = [], [], 0
    for at, i in enumerate(batch):
        units = aligned.unit[i]
        tokens = np.flatnonzero(units >= 0)
        if pooling != "mean" and len(tokens):
            # Tokens of a unit follow one another, so it changes where a unit begins or ends.
            change = np.diff(units[tokens], prepend=-1) if pooling == "first" else np.diff(units[tokens], append=-1)
            tokens = tokens[change != 0]
        place.append(tokens + at * ids.shape[1])
        unit.append(units[tokens] + start)
        start += int(units.max()) + 1
    where, into = torch.from_numpy(np.concatenate(place)), torch.from_numpy(np.concatenate(unit))
    count = torch.bincount(into, minlength=start).to(torch.float32)
    with torch.inference_mode():
        seen = states(model, ids, mask, layers)
        made = torch.zeros(len(layers), start, model.hidden_size)
        for row, layer in enumerate(layers):
            vectors = seen[layer].flatten(0, 1)[where.to(ids.device)].float().cpu()
            made[row].index_add_(0, into, vectors)
        made /= count[:, None]
    return made.clone()


def states(model: LanguageModel, ids: Tensor, mask: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
    """Outputs of blocks by layer [batch, pos, d_model]; of the last what the network gives, behind its final norm.

    By our own hooks: transformers' ``output_hidden_states`` leaves hooks on the network. Blocks above the highest of
    the layers are not run.
    """
    last = layer_count(model) - 1
    names = {0: "blocks.0.hook_resid_pre"} | {i: f"blocks.{i - 1}.hook_resid_post" for i in range(1, last)}
    found: dict[int, Tensor] = {}
    with capture(model, [names[layer] for layer in set(layers) - {last}]) as seen, ExitStack() as stack:
        if last not in layers:
            # Entered behind the capture, so it ends the pass when the highest layer has been read.
            stack.enter_context(suppress(_Enough))
            stack.enter_context(edit(model, {names[max(layers)]: _enough}))
        found[last] = _network(model)(input_ids=ids, attention_mask=mask).last_hidden_state
    return {layer: found[last] if layer == last else seen[names[layer]] for layer in layers}


class _Enough(Exception):
    """All layers that were asked for have been read."""


def _enough(activation: Tensor) -> Tensor:
    raise _Enough


def _shards(ids: Sequence[Sequence[int]], sizes: Indices, batch_size: int, width: int) -> list[list[list[int]]]:
    """Shards of batches of sentences, sorted by length, each shard of at most about 64 MB."""
    order = np.argsort([len(row) for row in ids], kind="stable")
    found: list[list[list[int]]] = []
    filled = SHARD_BYTES
    for begin in range(0, len(order), batch_size):
        batch = order[begin : begin + batch_size].tolist()
        size = int(sizes[batch].sum()) * width
        if filled + size > SHARD_BYTES:
            found.append([])
            filled = 0
        found[-1].append(batch)
        filled += size
    return found


def _open(
    cache: Path, model: LanguageModel, sentences: Sequence[Sequence[str]], facts: dict[str, Any], shards: int
) -> Path:
    """The folder of these representations, with a manifest that says whose they are."""
    vocabulary = fingerprint(model.tokenizer.get_vocab())
    identity = {
        "schema": SCHEMA,
        "fingerprints": {"model": model.fingerprint, "tokenizer": vocabulary, "sentences": fingerprint(sentences)},
        **facts,
        "shards": shards,
    }
    folder = cache / fingerprint(identity)
    path = folder / "manifest.json"
    if not path.exists():
        write_json(path, identity)
    elif read_json(path) != identity:
        raise ModelError(f"{path} is not the manifest of these representations; delete {folder}, it is made again.")
    return folder


def _file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _read(folder: Path, number: int, rows: Indices) -> Tensor | None:
    path = _file(folder, number)
    if not path.exists():
        return None
    with ShardFile(path) as file:
        if file.facts.get("store") != folder.name or not np.array_equal(file.tensor("row").numpy(), rows):
            raise ModelError(f"{path} is of other representations; delete {folder}, it is made again.")
        found = {name: file.tensor(name) for name in ("hidden", "row")}
        written = {name: value for name, value in file.facts.items() if name != "sha256"}
        if digest(found, written) != file.facts["sha256"]:
            raise ModelError(f"{path} is damaged (its contents have changed); delete it, it is made again.")
        return found["hidden"]


def _shown(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")
