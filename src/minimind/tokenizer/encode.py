"""Documents as token ids, loss mask and the number of bytes they teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minimind.tokenizer.messages import Message
from minimind.tokenizer.windows import WINDOW

if TYPE_CHECKING:
    from minimind.tokenizer.tokenizer import Tokenizer


class Encoded(NamedTuple):
    """ids (n,) uint16 or uint32; mask (n,) uint8, 1 = trained on; bytes: UTF-8 bytes of the trained text;
    cut_words: how often a word was too long for one window of the tokenizer."""

    ids: np.ndarray
    mask: np.ndarray
    bytes: int
    cut_words: int = 0


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every token id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> list[Encoded]:
    """Pretraining documents: bos + text + eos, all of it trained on."""
    dtype = token_dtype(tokenizer.vocab_size)
    bos, eos = np.array([tokenizer.bos_id], dtype), np.array([tokenizer.eos_id], dtype)
    short_ids = iter(tokenizer.encode_batch([text for text in texts if len(text) <= WINDOW]))
    encoded = []
    for text in texts:
        parts, cut_words = [], 0
        if len(text) <= WINDOW:
            parts.append(np.array(next(short_ids), dtype))
        else:
            for window in tokenizer.windows(text):
                parts.append(np.array(window.ids, dtype))
                cut_words += window.cut
        ids = np.concatenate([bos, *parts, eos])
        encoded.append(Encoded(ids, np.ones(len(ids), np.uint8), len(text.encode("utf-8")), cut_words))
    return encoded


def encode_chat(
    messages: list[Message],
    tools: str | None,
    tokenizer: Tokenizer,
    trained: Mapping[str, Any] = MappingProxyType({}),
) -> Encoded:
    """A conversation; `trained` as in Tokenizer.encode_chat. ChatError when it cannot be rendered."""
    ids_list, mask_list = tokenizer.encode_chat(messages, tools=tools, **trained)
    ids, mask = np.array(ids_list, token_dtype(tokenizer.vocab_size)), np.array(mask_list, np.uint8)
    return Encoded(ids, mask, len(tokenizer.decode(ids[mask == 1].tolist()).encode("utf-8")))
