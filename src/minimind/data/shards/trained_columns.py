"""Further token columns of a prepared data set, recorded for the tokens that are trained on alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minimind.data.shards.shard_set import ShardSet


class TrainedColumns(ShardSet):
    """A data set with further token columns; in conversations they are large where little is trained on.

    columns  (M, …) by name: an entry for each of the M tokens with mask 1, document after document; the others read
             as 0
    """

    def __init__(self, data: ShardSet, columns: Mapping[str, np.ndarray]) -> None:
        vars(self).update(vars(data))
        self.columns = columns
        self.token_columns = (*data.token_columns, *columns)
        self.first_entry = np.concatenate([[0], np.cumsum(trained_tokens(data))])

    def read_column(self, name: str, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        if name not in self.columns:
            return super().read_column(name, index, start, stop)
        _, mask = self.read(index, 0, stop)
        entries, wanted = self.columns[name], mask[start:] == 1
        first = self.first_entry[index] + np.count_nonzero(mask[:start])
        values: Any = np.zeros((len(wanted), *entries.shape[1:]), entries.dtype)
        values[wanted] = entries[first : first + np.count_nonzero(wanted)]
        return values


def trained_tokens(data: ShardSet) -> np.ndarray:
    """(N,): how many tokens of each document are trained on."""
    if not data.masked:
        return data.lengths
    return np.array([np.count_nonzero(data.read(index)[1]) for index in range(len(data))], np.int64)
