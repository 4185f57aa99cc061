"""The page of training data: documents with what is learned of them in color, and how rows are packed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from minimind.data.batches import packing
from minimind.data.sources.documents import BadLine, Document, read_documents
from minimind.data.sources.show import TokenRun, sequences, token_runs
from minimind.errors import UserError
from minimind.runs.read import default_directory, find_runs
from minimind.tokenizer import ChatError, Tokenizer
from minimind.web import markup
from minimind.web.i18n import say
from minimind.web.library import changed, find_models

PREVIEW = 200  # lines that are read for the page: enough to see what a file is like
LONGEST = 4000  # tokens of a document that are shown
ROWS = 24  # packed rows that are drawn


@dataclass(frozen=True)
class Trained:
    """What a document is trained as (of a preference, one side): ids, and a mask of those that are learned."""

    name: str
    ids: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Preview:
    """The beginning of a file: each good document with what it is trained as, and the lines that are none."""

    documents: list[tuple[Document, list[Trained]]]
    bad: list[BadLine]
    tokenizer: Tokenizer


def page() -> None:
    st.title(say("Data"))
    runs, models = find_runs(default_directory()), find_models(default_directory())
    if not models:
        raise UserError(say("No model in {place} yet. `minimind quickstart` makes one.", place=default_directory()))
    known = {file: None for run in runs for file in run.data if Path(file).is_file()}
    left, right = st.columns([2, 1])
    file = left.selectbox(
        say("File: choose one, or type a path"),
        list(known),
        accept_new_options=True,
        placeholder=".jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt",
        key="file",
        persist_state="session",
    )
    name = right.selectbox(say("Tokenizer of"), list(models), key="tokenizer", persist_state="session")
    if not file or not name:
        st.info(say("Type the path of a data file above."))
        return
    path = Path(file).expanduser()
    preview = read(str(path), changed(path), str(models[name]), changed(models[name] / "tokenizer.json"))
    for line in preview.bad[:5]:
        st.warning(str(line))
    if not preview.documents:
        raise UserError(say("There is no document among the first {count} lines.", count=PREVIEW))
    browse(preview)
    show_packing([one for _, trained in preview.documents for one in trained])


@st.cache_resource(max_entries=4, show_spinner=False)
def read(path: str, file_changed: float, tokenizer_directory: str, tokenizer_changed: float) -> Preview:
    """The first lines of a file. UserError where file or tokenizer cannot be read."""
    preview = Preview([], [], Tokenizer.load(tokenizer_directory))
    for item in itertools.islice(read_documents(path), PREVIEW):
        if isinstance(item, Document):
            try:
                trained = [Trained(*one) for one in sequences(item, preview.tokenizer)]
                preview.documents.append((item, trained))
                continue
            except ChatError as error:
                item = BadLine(item.file, item.line, str(error))
        preview.bad.append(item)
    return preview


def browse(preview: Preview) -> None:
    """One document of the first few, colored by the loss mask."""
    st.subheader(say("What the model learns"))
    count, number = len(preview.documents), 1
    if count > 1:
        number = st.slider(say("Document"), 1, count, 1, key="document")
    document, trained = preview.documents[min(number, count) - 1]
    with st.container(border=True):
        for one in trained:
            facts = say(
                "{tokens} tokens, {learned} of them learned", tokens=len(one.ids), learned=int(one.mask.sum())
            )
            st.caption(f"{say(one.name)} · {say('line {line}', line=document.line)} · {facts}")
            st.html(markup.masked(token_runs(one.ids[:LONGEST], one.mask[:LONGEST], preview.tokenizer)))
    legend = [(say("learned"), True, False), (say("only read"), False, False), (say("control token"), False, True)]
    st.html(markup.masked(part for one in legend for part in (TokenRun(*one), TokenRun("   ", False, False))))


def show_packing(trained: list[Trained]) -> None:
    """The first documents laid side by side in rows, as the loader does with all of them."""
    st.subheader(say("How they are packed"))
    seq_len = st.select_slider(
        say("Sequence length"), [64, 128, 256, 512, 1024, 2048, 4096], 512, key="seq_len", persist_state="session"
    )
    of, _, length = packing.segments(np.array([len(one.ids) for one in trained]), seq_len)
    order, sequence_starts = packing.pack(length, seq_len)
    rows = [order[a:b] for a, b in itertools.pairwise(sequence_starts)]
    padding = {"packed": 1 - length.sum() / (len(rows) * seq_len), "alone": 1 - length.sum() / (len(of) * seq_len)}
    facts = {
        say("documents"): f"{len(trained):,}",
        say("segments"): f"{len(of):,}",
        say("sequences"): f"{len(rows):,}",
        say("padding"): f"{padding['packed']:.1%}",
        say("padding, one document a sequence"): f"{padding['alone']:.1%}",
    }
    st.html(markup.cards(facts))
    bars = [[(int(of[one]) + 1, int(length[one])) for one in row] for row in rows[:ROWS]]
    st.html(markup.packed(bars, seq_len, say("document {number}: {length} tokens")))
    if len(rows) > ROWS:
        st.caption(
            say(
                "{shown} of {total} sequences, from the first {count} lines",
                shown=ROWS,
                total=len(rows),
                count=PREVIEW,
            )
        )
