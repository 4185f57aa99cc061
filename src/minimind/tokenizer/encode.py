"""Documents as token ids, loss mask and the number of bytes they teach."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minimind.tokenizer.messages import Message

if TYPE_CHECKING:
    from minimind.tokenizer.tokenizer import Tokenizer

# Longer texts are tokenized in parts of about this many characters: the tokenizer keeps some 200 bytes per
# token while it works, which for a novel in one line would be hundreds of megabytes.
LONG = 2**17

# Where a text may be cut without changing its tokens: after a letter, before white space or a full stop or
# comma. No pre-tokenizer rule in use looks back across such a place or joins what stands around it.
_SEAM = re.compile(r"(?<=[^\W\d_])(?=[ \n,.，。])")


class Encoded(NamedTuple):
    """ids (n,) uint16 or uint32; mask (n,) uint8, 1 = trained on; bytes: UTF-8 bytes of the trained text."""

    ids: np.ndarray
    mask: np.ndarray
    bytes: int


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every token id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def split_long(text: str, size: int = LONG) -> Iterator[str]:
    """Cut a text into parts of `size` characters or a little more, only where tokens never join."""
    start = 0
    while seam := _SEAM.search(text, start + size):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> list[Encoded]:
    """Pretraining documents: bos + text + eos, all of it trained on."""
    dtype = token_dtype(tokenizer.vocab_size)
    bos, eos = np.array([tokenizer.bos_id], dtype), np.array([tokenizer.eos_id], dtype)
    short = [text for text in texts if len(text) <= LONG]
    short_ids = iter(tokenizer.encode_batch(short))
    encoded = []
    for text in texts:
        if len(text) <= LONG:
            parts = [np.array(next(short_ids), dtype)]
        else:
            parts = [np.array(tokenizer.encode(part), dtype) for part in split_long(text)]
        ids = np.concatenate([bos, *parts, eos])
        encoded.append(Encoded(ids, np.ones(len(ids), np.uint8), len(text.encode("utf-8"))))
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
