"""The models that a page can open: those in the runs directory, each loaded once for all visitors."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from minimind.api import Model
from minimind.errors import UserError
from minimind.model.hf.weights import model_directory


@dataclass(frozen=True)
class Loaded:
    """A model, and the lock that whoever steps its engine holds: an engine serves one thread at a time."""

    model: Model
    lock: threading.RLock = field(default_factory=threading.RLock)


def find_models(directory: Path) -> dict[str, Path]:
    """Models in and below a directory: name -> model directory, the last written first.

    A run counts once, with its finished model, else its best or newest checkpoint.
    """
    found = {}
    for folder, children, _ in os.walk(directory):
        path = Path(folder)
        try:
            model = model_directory(path)
        except UserError:
            continue
        if (model / "tokenizer.json").is_file():
            children.clear()
            found[directory.resolve().name if path == directory else path.relative_to(directory).as_posix()] = model
    return dict(sorted(found.items(), key=lambda item: changed(item[1] / "config.json"), reverse=True))


def load(path: Path) -> Loaded:
    """The model in a directory, again from disk after it changed. UserError where it cannot be read."""
    return _load(str(path), changed(path / "config.json"))


@st.cache_resource(max_entries=4, show_spinner=False)
def _load(path: str, changed: float) -> Loaded:
    return Loaded(Model(path))


def changed(path: Path) -> float:
    """When a file was last written; 0 where there is none, as for a moment while a training replaces it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
