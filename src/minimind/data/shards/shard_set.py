"""Tokenized documents on disk, memory-mapped.

A data set directory holds `meta.json` and, for each shard, plain .npy files that `numpy.load` opens:

    00000.ids.npy    the documents' token ids one after the other, uint16 (uint32 for a large vocabulary)
    00000.mask.npy   uint8, 1 = trained on; not for texts, all of which is trained on
    00000.docs.npy   one DOC row per document

and a file for every further column that the meta names: `00000.NAME.npy` with one entry per token,
`00000.docs.NAME.npy` with one per document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from minimind.errors import UserError
from minimind.tokenizer.encode import token_dtype

VERSION = 2
SHARD_TOKENS = 64 * 2**20  # a shard is closed before it grows beyond this; a longer document has its own

DOC = np.dtype(
    [
        ("offset", "<u8"),  # where the document starts in the shard's ids
        ("length", "<u4"),  # tokens
        ("file", "<u4"),  # index into the meta's sources
        ("line", "<u8"),  # 1-based
        ("bytes", "<u4"),  # UTF-8 bytes of the text that is trained on
        ("hash", "<u8"),  # of the content
    ]
)


class ArrayFile:
    """A .npy file that grows along its first axis; an entry may itself be an array of `entry_shape`."""

    def __init__(self, path: Path, dtype: np.dtype, entry_shape: tuple[int, ...] = ()):
        self.dtype = dtype
        self.entry_shape = entry_shape
        self.length = 0
        self.file: BinaryIO = path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow, so it can be rewritten in place.
        self.file.seek(0)
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length, *self.entry_shape),
        }
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.length += len(values)

    def close(self) -> None:
        self._write_header()
        self.file.close()


class ShardWriter:
    """Writes documents in the order they come, into shards of bounded size; nothing is kept in memory."""

    def __init__(
        self, directory: Path, kind: str, vocab_size: int, tokenizer: str, shard_tokens: int = SHARD_TOKENS
    ):
        self.directory = directory
        self.kind = kind
        self.vocab_size = vocab_size
        self.tokenizer = tokenizer
        self.shard_tokens = shard_tokens
        self.shards: list[dict[str, int]] = []
        self.counts = {"documents": 0, "tokens": 0, "trained_tokens": 0, "bytes": 0}
        self._files: dict[str, ArrayFile] = {}
        # One digest per column: it says what the data are, however they were cut into batches and shards.
        self._digests: dict[str, Any] = {name: hashlib.sha256() for name in ("ids", "mask", "length")}

    def append(
        self,
        ids: np.ndarray,
        mask: np.ndarray | None,
        docs: np.ndarray,
        token_columns: Mapping[str, np.ndarray] = MappingProxyType({}),
        document_columns: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Add documents.

        ids (n,) and mask (n,) (None for texts) are the documents' tokens one after the other; docs (m,) of
        type DOC describes them, its offsets not yet filled in. Further columns (n, …) and (m, …) by name: always
        the same ones.
        """
        tokens = {"ids": ids} | ({} if mask is None else {"mask": mask}) | dict(token_columns)
        ends = np.cumsum(docs["length"], dtype=np.int64)
        first, token = 0, 0
        while first < len(docs):
            room = self.shard_tokens - (self._files["ids"].length if self._files else 0)
            last = int(np.searchsorted(ends, token + room, side="right"))
            if last <= first:  # the next document does not fit any more
                if self._files:
                    self._close_shard()
                    continue
                last = first + 1
            stop = int(ends[last - 1])
            self._append_to_shard(
                {name: values[token:stop] for name, values in tokens.items()},
                docs[first:last],
                {name: values[first:last] for name, values in document_columns.items()},
            )
            first, token = last, stop

    def _append_to_shard(
        self, tokens: dict[str, np.ndarray], docs: np.ndarray, document_columns: dict[str, np.ndarray]
    ) -> None:
        if not self._files:
            self._open_shard(tokens, document_columns)
        docs = docs.copy()
        docs["offset"] = self._files["ids"].length + np.cumsum(docs["length"], dtype=np.uint64) - docs["length"]
        self._files["docs"].append(docs)
        self._digests["length"].update(docs["length"].tobytes())
        for name, values in [*tokens.items(), *((f"docs.{name}", v) for name, v in document_columns.items())]:
            self._files[name].append(values)
            self._digests.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(values).data)
        ids, mask = tokens["ids"], tokens.get("mask")
        self.counts["documents"] += len(docs)
        self.counts["tokens"] += len(ids)
        self.counts["trained_tokens"] += len(ids) if mask is None else int(np.count_nonzero(mask))
        self.counts["bytes"] += int(docs["bytes"].sum(dtype=np.int64))

    def _open_shard(self, tokens: dict[str, np.ndarray], document_columns: dict[str, np.ndarray]) -> None:
        own = {"ids": token_dtype(self.vocab_size), "mask": np.dtype("u1")}
        columns = {name: (own.get(name, values.dtype), values.shape[1:]) for name, values in tokens.items()}
        columns |= {f"docs.{name}": (v.dtype, v.shape[1:]) for name, v in document_columns.items()}
        self._columns = [*columns, "docs"]
        place = f"{self.directory / f'{len(self.shards):05d}'}"
        self._files = {name: ArrayFile(Path(f"{place}.{name}.npy"), *kind) for name, kind in columns.items()}
        self._files["docs"] = ArrayFile(Path(f"{place}.docs.npy"), DOC)

    def _close_shard(self) -> None:
        self.shards.append({"documents": self._files["docs"].length, "tokens": self._files["ids"].length})
        self.close()

    def close(self) -> None:
        """Close the files of the shard being written."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def finish(self, extra: dict[str, Any]) -> None:
        """Close the last shard and write meta.json with `extra` (sources, settings, report)."""
        if self._files:
            self._close_shard()
        identity = [self.kind, self.vocab_size, *(digest.hexdigest() for digest in self._digests.values())]
        meta = {
            "version": VERSION,
            "kind": self.kind,
            "columns": self._columns,
            "fingerprint": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
            "tokenizer": self.tokenizer,
            "vocab_size": self.vocab_size,
            "counts": self.counts,
            "shards": self.shards,
            **extra,
        }
        text = json.dumps(meta, ensure_ascii=False, indent=1)
        (self.directory / "meta.json").write_text(text + "\n", encoding="utf-8")


class ShardSet:
    """A prepared data set: documents by index, read from memory-mapped files.

    kind         "pretrain" (every token is trained on), "chat" (the mask says which), "preference" (likewise; the
                 documents are pairs of a chosen and a rejected conversation) or "unpaired" (with a column `label`)
    fingerprint  sha256 of the kind, the vocabulary size and every token, mask and document length
    tokenizer    fingerprint of the tokenizer that made it
    sources      paths of the files it was made from
    report       what was left out and why: see `minimind.data.shards.prepare`
    lengths      (N,) int64, tokens of each document
    hashes       (N,) uint64, content hash of each document
    bytes        (N,) int64, UTF-8 bytes of each document's trained text
    """

    def __init__(self, directory: Path, meta: dict[str, Any], shards: list[dict[str, np.ndarray]]):
        self.directory = directory
        self.meta = meta
        self.kind: str = meta["kind"]
        self.fingerprint: str = meta["fingerprint"]
        self.tokenizer: str = meta["tokenizer"]
        self.vocab_size: int = meta["vocab_size"]
        self.num_tokens: int = meta["counts"]["tokens"]
        self.sources: list[str] = [source["path"] for source in meta["sources"]]
        self.report: dict[str, Any] = meta["report"]
        self.masked = self.kind != "pretrain"
        self.group = 2 if self.kind == "preference" else 1
        self._shards = shards
        self._first = np.cumsum([0] + [len(shard["docs"]) for shard in shards])  # document number per shard
        column = lambda name, dtype: np.concatenate([s["docs"][name] for s in shards]).astype(dtype)  # noqa: E731
        self.lengths: np.ndarray = column("length", np.int64)
        self.hashes: np.ndarray = column("hash", np.uint64)
        self.bytes: np.ndarray = column("bytes", np.int64)
        names = list(shards[0])
        self.token_columns = tuple(n for n in names if n not in ("ids", "mask") and not n.startswith("docs"))
        self.document_columns: dict[str, np.ndarray] = {
            name.removeprefix("docs."): np.concatenate([shard[name] for shard in shards])
            for name in names
            if name.startswith("docs.")
        }

    @classmethod
    def open(cls, directory: str | Path) -> ShardSet:
        """Open a data set directory; UserError when it is none or was damaged."""
        directory = Path(directory)
        try:
            return cls._open(directory)
        except (ValueError, LookupError, TypeError, AttributeError):  # of another shape than we write it
            raise UserError(f"{directory}/meta.json is damaged; delete {directory} and prepare again") from None

    @classmethod
    def _open(cls, directory: Path) -> ShardSet:
        try:
            meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{directory} is not a prepared data set (no meta.json); make one with minimind data prepare"
            ) from None
        if meta.get("version") != VERSION:
            raise UserError(f"{directory} was prepared by another version of MiniMind; delete it and prepare again")
        columns = meta.get("columns") or ["ids", "docs", *(["mask"] if meta["kind"] == "chat" else [])]
        shards = []
        for number, sizes in enumerate(meta["shards"]):
            paths = {column: directory / f"{number:05d}.{column}.npy" for column in columns}
            try:
                # asarray: slicing a plain view of the mapping is ten times quicker than slicing np.memmap
                shard = {column: np.asarray(np.load(path, mmap_mode="r")) for column, path in paths.items()}
            except (OSError, ValueError, EOFError) as error:
                raise UserError(f"{directory} is damaged ({error}); delete it and prepare again") from None
            expected = [sizes["documents" if column.startswith("docs") else "tokens"] for column in columns]
            if [len(shard[column]) for column in columns] != expected:
                raise UserError(f"{directory} is damaged (shard {number}); delete it and prepare again")
            shards.append(shard)
        return cls(directory, meta, shards)

    @property
    def origin(self) -> dict[str, Any]:
        return {"sources": self.sources, "sha256": [source["sha256"] for source in self.meta["sources"]]}

    def __len__(self) -> int:
        return len(self.lengths)

    def _locate(self, index: int) -> tuple[dict[str, np.ndarray], np.void]:
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        shard = self._shards[number]
        return shard, shard["docs"][index - self._first[number]]

    def read(self, index: int, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [start, stop) of a document: ids (n,) and mask (n,) uint8; views of the files, not copies."""
        shard, doc = self._locate(index)
        first, length = int(doc["offset"]), int(doc["length"])
        stop = length if stop is None else min(stop, length)
        where = slice(first + start, first + max(start, stop))
        ids = shard["ids"][where]
        mask = shard["mask"][where] if "mask" in shard else np.ones(len(ids), np.uint8)
        return ids, mask

    def read_column(self, name: str, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Tokens [start, stop) of a document in a further column; a view of the file."""
        shard, doc = self._locate(index)
        first, length = int(doc["offset"]), int(doc["length"])
        return shard[name][first + start : first + (length if stop is None else min(stop, length))]

    def provenance(self, index: int) -> tuple[str, int]:
        """The source file and the 1-based line a document came from."""
        _, doc = self._locate(index)
        return self.sources[int(doc["file"])], int(doc["line"])
