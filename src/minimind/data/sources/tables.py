"""Rows of .parquet, .csv and .tsv as JSON objects, so that everything after the reader knows one form only."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from minimind.data.sources.json_values import UTF8
from minimind.data.sources.records import MAX_RECORD, DamagedFile, Record, line_feeds, lines
from minimind.data.sources.schemas import ANSWERS
from minimind.errors import missing_extra


def read_csv(blocks: Iterator[bytes], path: Path, delimiters: str) -> Iterator[Record]:
    """Rows below a row of column names, as JSON objects; `delimiters` are those that may stand between them."""
    texts = (data.decode(*UTF8) + "\n" for _, data in lines(line_feeds(blocks)) if data is not None)
    head = next(texts, "")
    rows = csv.reader(chain([head], texts), delimiter=max(delimiters, key=head.count))
    csv.field_size_limit(MAX_RECORD)
    line = 1
    try:
        names = [name.strip() for name in next(rows)]
        names += [f"column {number}" for number in range(len(names) + 1, 1000)]  # cells that nobody named
        line = rows.line_num + 1
        for row in rows:
            if any(cell.strip() for cell in row):
                # An empty answer stays: without it the question would be a prompt for others to answer.
                cells = {name: cell for name, cell in zip(names, row) if cell or name.casefold() in ANSWERS}
                yield Record(line, json.dumps(cells, ensure_ascii=False).encode(*UTF8))
            line = rows.line_num + 1
    except csv.Error as error:
        raise DamagedFile(f"{path}:{line}: no table that can be read ({error}); save it as CSV anew") from None


def read_parquet(path: Path, on_read: Callable[[int], None]) -> Iterator[Record]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "data") from None
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            bytes_per_row = path.stat().st_size / max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=256):
                on_read(int(bytes_per_row * len(batch)))
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, json.dumps(_without_nulls(row), default=_plain).encode())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(f"{path} is damaged after row {number} ({error}); get the file again") from None


def _without_nulls(value: Any) -> Any:
    """A row without what Arrow fills in so that all rows have the same keys; pandas writes it as NaN."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None and inner == inner}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _plain(value: object) -> str:
    """Column types that JSON has not: bytes are taken for UTF-8 text, dates and numbers for what they print."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
