"""The models that a page can open: those in the runs directory, each loaded once for all visitors."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from minimind.api import Model
from minimind.errors import UserError
from minimind.interop.card import run_directory
from minimind.model.hf.adapter import config_file
from minimind.model.hf.weights import model_directory
from minimind.runs.read import read_mapping


def find_models(directory: Path) -> dict[str, Path]:
    """Models in and below a directory: name -> model directory, the last written first.

    A run counts once, with its finished model, else its best or newest checkpoint.
    """
    models = {}
    for folder, children, _ in os.walk(directory):
        path = Path(folder)
        try:
            model = model_directory(path)
        except UserError:
            continue
        if (model / "tokenizer.json").is_file():
            children.clear()
            name = directory.resolve().name if path == directory else path.relative_to(directory).as_posix()
            models[name] = model
    return dict(sorted(models.items(), key=lambda item: changed(config_file(item[1])), reverse=True))


def is_base(model: Path) -> bool:
    """Whether a model was only pretrained, as its run or its model card says: it goes on with a text."""
    home = run_directory(model)
    if home and (stage := read_mapping(home / "state.json").get("stage")):
        return stage == "pretrain"
    try:
        with (model / "README.md").open(encoding="utf-8", errors="replace") as card:
            head = card.read(10_000).split("---\n")
    except OSError:
        return False
    return len(head) > 2 and head[0] == "" and "\n- pretrain\n" in head[1]


def load(path: Path) -> Model:
    """The model in a directory, again from disk after it changed. UserError where it cannot be read."""
    return _load(str(path), changed(config_file(path)))


@st.cache_resource(max_entries=4, show_spinner=False)
def _load(path: str, changed: float) -> Model:
    return Model(path)


def changed(path: Path) -> float:
    """When a file was last written; 0 where there is none, as for a moment while a training replaces it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
