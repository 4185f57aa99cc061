"""A runs directory for the pages: a training with samples, and two models that say random things."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def same_main_module() -> Iterator[None]:
    """Streamlit puts the page in the place of `__main__`, which processes of later tests would then begin with."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, talker: Path, corpus: Path, tokenizer_directory: Path) -> Path:
    from tests.helpers import flags

    from minimind.cli import main

    directory = tmp_path_factory.mktemp("web") / "runs"
    shutil.copytree(talker, directory / "talker")
    shutil.copytree(talker, directory / "twin")
    paths = ["--data", str(corpus), "--tokenizer", str(tokenizer_directory), "--out", str(directory / "base")]
    settings = flags(evaluation__samples=2, evaluation__every=4)
    assert main(["train", "pretrain", *paths, *settings]) == 0
    (directory / "talker/model/config.json").touch()  # the newest is the one that the pages begin with
    return directory
