"""How well a model predicts the same tokens after contexts of several lengths, as it is and with scaled RoPE.

The last tokens of windows of a long text are predicted again and again, each time with more of the text before
them. A model that can use the longer context has a lower NLL there; one that comes to positions that it was
never trained at falls apart.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from minimind.data.sources.documents import BadLine, Document, read_documents
from minimind.data.sources.files import is_plain_text
from minimind.errors import UserError
from minimind.eval.perplexity import NLL
from minimind.infer.text import REPLACEMENT
from minimind.losses.cross_entropy import linear_cross_entropy
from minimind.model import ModelConfig, Transformer
from minimind.model.hf.config import to_hf
from minimind.model.rope import scale_rope
from minimind.runs.svg import Series, grid, line_plot
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.encode import encode_texts
from minimind.util.units import short

log = logging.getLogger("minimind")

ROPE_TYPES: tuple[Literal["linear", "dynamic", "yarn"], ...] = ("linear", "dynamic", "yarn")
MOST_TARGETS = 64  # tokens predicted in a window; never more than half of the shortest context
BATCH_TOKENS = 8192  # read at once


@dataclass(frozen=True)
class Windows:
    """N windows of long texts, each one token longer than the longest context; their last tokens are predicted."""

    tokens_NT: torch.Tensor
    targets: int
    """how many of each window's last tokens are predicted"""
    bytes: int
    """UTF-8 bytes of all of these"""


def check_lengths(lengths: Sequence[int]) -> None:
    """UserError unless the contexts can be read and grow."""
    if lengths[0] < 2 or any(a >= b for a, b in itertools.pairwise(lengths)):
        listed = " ".join(map(str, lengths))
        raise UserError(f"--lengths {listed}: give lengths of at least 2 tokens, each longer than the one before")


# ------------------------------------------------------------------------------------------------ the text


def read_long_texts(files: Iterable[Path], encoding: str | None = None) -> Iterator[str]:
    """Every text of the files; a .txt file is one, whatever blank lines are in it. UserError for one without."""
    for file in files:
        bad: list[BadLine] = []
        some, texts = False, _texts(file, encoding, bad)
        for text in ["\n\n".join(texts)] if is_plain_text(file) else texts:
            some = some or bool(text)
            yield text
        if bad and not some:
            raise UserError(f"{file} has no text; the first line: {bad[0]}")
        if bad:
            log.warning("%d bad lines were left out; the first: %s", len(bad), bad[0])


def _texts(file: Path, encoding: str | None, bad: list[BadLine]) -> Iterator[str]:
    for item in read_documents(file, "pretrain", encoding=encoding):
        if isinstance(item, Document):
            yield item.text
        else:
            bad.append(item)


def cut_windows(texts: Iterable[str], tokenizer: Tokenizer, lengths: Sequence[int], most: int) -> Windows:
    """Windows with about `most` targets together, or as many as there are, spread evenly over the texts.

    Texts are read until they hold that many; those that are too short are passed over. Targets begin and end
    between two characters, so that their bytes can be counted. UserError if no text is long enough.
    """
    longest, targets = lengths[-1], min(MOST_TARGETS, lengths[0] // 2)
    count = max(1, most // targets)
    places: list[tuple[np.ndarray, int]] = []  # a text's ids and where in them the targets end
    for text in texts:
        if len(text.encode("utf-8")) >= longest:  # there are no more tokens than bytes
            ids = encode_texts([text], tokenizer)[0].ids[:-1]  # the end of a text is no part of it
            places += [(ids, end) for end in range(longest + targets, len(ids) + 1, targets)]
        if len(places) >= count:
            break
    if not places:
        raise UserError(
            f"no text is long enough: a context of {longest} tokens takes one of {longest + targets}; "
            "name a file with a longer text or give shorter --lengths"
        )
    windows, size = [], 0
    for number in np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int):
        ids, end = places[number]
        end = _between_characters(ids, end, targets, tokenizer)
        windows.append(torch.from_numpy(ids[end - longest - 1 : end].astype(np.int64)))
        size += len(tokenizer.decode(windows[-1][-targets:].tolist()).encode("utf-8"))
    return Windows(torch.stack(windows), targets, size)


def _between_characters(ids: np.ndarray, last: int, targets: int, tokenizer: Tokenizer) -> int:
    """The last place, up to `last`, before which `targets` tokens are whole characters; `last` if none is near."""
    for end in range(last, last - targets, -1):
        if REPLACEMENT not in tokenizer.decode(ids[end - targets : end].tolist()):
            return end
    return last


# ----------------------------------------------------------------------------------------------- the model


def rope_configs(
    config: ModelConfig, ropes: Sequence[str], longest: int, factor: float | None = None, trained: int | None = None
) -> dict[str, ModelConfig]:
    """The model's config for each of `ropes`: "none" is without scaling.

    factor   how many times longer; by default what the model's own config says, or else enough for `longest`
    trained  the length that the model was trained at; by default the one that it records

    UserError for a kind that does not exist, an unknown trained length, and where there is nothing to scale.
    """
    known = ("none", *ROPE_TYPES)
    if unknown := [rope for rope in ropes if rope not in known]:
        raise UserError(f"--rope {unknown[0]}: there are {', '.join(known)}")
    configs = {"none": replace(config, rope_scaling=None)} if "none" in ropes else {}
    for rope in (rope for rope in ROPE_TYPES if rope in ropes):
        trained = trained or config.original_max_position_embeddings
        if trained is None:
            raise UserError("config.json does not record the length that the model was trained at; give --trained")
        factor = factor or (config.rope_scaling.factor if config.rope_scaling else longest / trained)
        if not 1 < factor < math.inf:
            raise UserError(
                f"a factor of {factor:g} stretches nothing: the model was trained at {trained} tokens, the longest "
                f"of --lengths is {longest}; give longer ones, or --factor above 1, or --rope none"
            )
        configs[rope] = scale_rope(config, factor, rope, trained)
    return configs


def at_other_positions(model: Transformer, config: ModelConfig) -> Transformer:
    """The same weights, in the same memory, under a config that differs in its rotary positions alone."""
    other = Transformer(config, seed=None)
    other.load_state_dict(model.state_dict(), assign=True)
    other.compute_dtype = model.compute_dtype
    return other.to(model.output_weight.device).eval()


@torch.inference_mode()
def evaluate(
    model: Transformer,
    windows: Windows,
    lengths: Sequence[int],
    on_read: Callable[[int], None] = lambda tokens: None,
) -> list[NLL]:
    """The NLL at the windows' last tokens after a context of each length, which ends in the last but one.

    So the last target is predicted from `length` tokens, the first from `length - targets + 1`. `on_read` gets
    the number of tokens after each batch.
    """
    device, curve = model.output_weight.device, []
    for length in lengths:
        total = NLL(tokens=windows.targets * len(windows.tokens_NT), bytes=windows.bytes)
        for batch_NT in windows.tokens_NT[:, -length - 1 :].split(max(1, BATCH_TOKENS // length)):
            batch_NT = batch_NT.to(device)
            hidden_NTD = model(batch_NT[:, :-1])[:, -windows.targets :]
            targets = batch_NT[:, -windows.targets :].flatten()
            total.nats += float(linear_cross_entropy(hidden_NTD.flatten(0, 1), model.output_weight, targets))
            on_read(batch_NT[:, 1:].numel())
        curve.append(total)
    return curve


# ---------------------------------------------------------------------------------------------- the result


@dataclass(frozen=True)
class LengthReport:
    """For each way to read positions, the NLL at the same tokens after a context of each length."""

    lengths: Sequence[int]
    configs: dict[str, ModelConfig]
    curves: dict[str, list[NLL]]

    @property
    def best(self) -> str:
        """The way that predicts best after the longest context."""
        return min(self.curves, key=lambda rope: self.curves[rope][-1].nats)

    def rows(self) -> list[list[str]]:
        table = [["context", *self.curves]]
        for length, *points in zip(self.lengths, *self.curves.values()):
            cells = [f"{point.bits_per_byte:.4f} ({short(point.perplexity)})" for point in points]
            table.append([f"{length:,}", *cells])
        return table

    def plot(self) -> str:
        """Perplexity against length, as an SVG file."""
        series = [Series(rope, self.lengths, [p.perplexity for p in curve]) for rope, curve in self.curves.items()]
        factor = max((c.rope_scaling.factor for c in self.configs.values() if c.rope_scaling), default=None)
        title = "perplexity by context" + (f", stretched × {factor:.4g}" if factor else "")
        return grid([line_plot(title, series, "tokens of context", log_y=True, log_x=True)], columns=1)

    def to_keep(self, rope: str) -> dict[str, Any]:
        """What the model's config.json must say for it to read its positions in this way everywhere."""
        names = ("max_position_embeddings", "original_max_position_embeddings", "rope_scaling")
        return {name: value for name, value in to_hf(self.configs[rope]).items() if name in names}

    def to_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "curves": [
                {
                    "rope": rope,
                    "config": self.to_keep(rope),
                    "points": [
                        {"length": length, "perplexity": point.perplexity, **point.to_dict()}
                        for length, point in zip(self.lengths, curve)
                    ],
                }
                for rope, curve in self.curves.items()
            ],
        }
