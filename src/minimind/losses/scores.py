"""What a reward model says: one number for each conversation, read where its last token stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.documents import MemoryDocuments, WholeDocuments
from minimind.data.batches.loader import pack_once
from minimind.losses.cross_entropy import hidden_states
from minimind.model import Transformer

POSITIONS = 8192  # read at once


def document_scores(model: Transformer, batch: Batch) -> torch.Tensor:
    """(S,): the score of each document at its last position, in fp32 or wider; differentiable.

    As Hugging Face's `…ForSequenceClassification` reads it, at the last token that is no padding.
    """
    documents_N = batch.documents.flatten()
    places_N = torch.arange(len(documents_N), device=documents_N.device)
    last_S = places_N.new_zeros(batch.num_documents + 1).scatter_reduce(0, documents_N + 1, places_N, "amax")[1:]
    hidden_SD = hidden_states(model, batch).flatten(0, 1)[last_S]
    hidden_SD = hidden_SD.to(torch.promote_types(hidden_SD.dtype, torch.float32))
    scores_S: torch.Tensor = model.score(hidden_SD)[:, 0]
    return scores_S


@torch.no_grad()
def score_conversations(model: Transformer, conversations: Sequence[Sequence[int]]) -> list[float]:
    """The score of each conversation, given as its token ids; packed, so no padding is read."""
    ids = [np.array(conversation) for conversation in conversations]
    data = WholeDocuments(MemoryDocuments(ids, [np.ones(len(one), np.uint8) for one in ids]), end=0)
    seq_len = int(max(data.lengths)) - 1
    scores = torch.zeros(len(ids))
    device = model.model.embed_tokens.weight.device
    for batch in split_into_micro_batches(pack_once(data, seq_len), max(1, POSITIONS // seq_len)):
        scores[batch.table["source"]] = document_scores(model, batch.to(device)).float().cpu()
    return scores.tolist()
