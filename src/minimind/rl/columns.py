"""What a model thinks of every token of sampled episodes: computed once a rollout, whatever the number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.loader import pack_once
from minimind.rl.rollout import to_documents
from minimind.rl.types import Rollout


@torch.no_grad()
def values_by_token(
    compute: Callable[[Batch], torch.Tensor],
    rollouts: Sequence[Rollout],
    seq_len: int,
    at_once: int,
    device: torch.device,
) -> list[np.ndarray]:
    """For each rollout a float32 for each of its ids: what `compute` makes of a packed batch, (B, T) one entry per
    target. The first token of a rollout is no target: 0.

    at_once  sequences computed at a time
    """
    if not rollouts:
        return []
    packed = pack_once(to_documents(rollouts, {}), seq_len)
    found = [np.zeros(len(rollout.ids), np.float32) for rollout in rollouts]
    for batch in split_into_micro_batches(packed, at_once):
        values_BT = compute(batch.to(device)).float().cpu().numpy()
        documents_BT = batch.documents.numpy()
        for number, source in enumerate(batch.table["source"].tolist()):
            values = values_BT[documents_BT == number]
            found[source][1 : 1 + len(values)] = values
    return found
