"""What a stage is: data, model, objective, source of batches, evaluation and a few defaults, for the one loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minimind.data.batches.documents import Documents
from minimind.data.batches.loader import BatchSource, Loader
from minimind.data.shards.holdout import holdout
from minimind.data.shards.prepare import prepare
from minimind.data.shards.thoughts import Thoughts
from minimind.errors import UserError
from minimind.model import Transformer
from minimind.model.hf.weights import add_adapter, load_tensors
from minimind.plan.memory import nothing_else
from minimind.recipe import Recipe
from minimind.tokenizer import Tokenizer
from minimind.train.evaluation import Evaluation, HeldOutNLL
from minimind.train.objective import Objective
from minimind.train.setup import Setup

Split = tuple[Documents, np.ndarray, np.ndarray]
"""documents, and which of them are trained on and which held out"""


def load_files(recipe: Recipe, tokenizer: Tokenizer, kind: str, thoughts: Thoughts | None = None) -> Split:
    """The recipe's files, tokenized, with documents held out by the hash of their content."""
    if not recipe.data:
        raise UserError("no data: name the files with --data FILE…")
    trained_on = {} if kind == "pretrain" else dataclasses.asdict(recipe.chat)
    if kind != "chat" and trained_on:
        trained_on["train_on"] = "last"  # what two sides share says nothing of which is better
    files, encoding = [Path(file) for file in recipe.data], recipe.encoding or None
    data = prepare(files, tokenizer, kind, encoding=encoding, thoughts=thoughts, **trained_on)
    held_out = holdout(data.hashes, recipe.evaluation.holdout, recipe.seed)
    if held_out.all():
        raise UserError(f"all {len(data)} documents are held out; lower evaluation.holdout or add data")
    return data, np.flatnonzero(~held_out), np.flatnonzero(held_out)


def make_model(recipe: Recipe) -> Transformer:
    """The model in the recipe's shape: from scratch, or with the weights of the one it starts from; with an adapter
    where the recipe asks for one."""
    model = Transformer(recipe.model, None if recipe.init_from else recipe.seed)
    if recipe.init_from:
        load_tensors(model, Path(recipe.init_from))
    if recipe.lora.rank:
        add_adapter(model, recipe.lora, recipe.seed, Path(recipe.init_from))
    return model


def make_loader(setup: Setup, objective: Objective) -> BatchSource:
    batch, seed = setup.recipe.batch, setup.recipe.seed
    loader = Loader(setup.data, setup.train_documents, batch.seq_len, batch.sequences, seed, batch.long_documents)
    if count := len(loader.dropped):
        places = dict.fromkeys("{}:{}".format(*setup.data.provenance(int(document))) for document in loader.dropped)
        named = ", ".join(list(places)[:3]) + (", …" if len(places) > 3 else "")
        why = "nothing to train on" + (" or to tell them apart" if setup.data.group > 1 else "")
        setup.console.say(f"{count:,} segments of batch.seq_len {batch.seq_len} have {why}: left out ({named})")
    return loader


@dataclass(frozen=True)
class Stage:
    """One way to train. Everything that a stage does not say is as for pretraining."""

    name: str
    objective: Callable[[Setup], Objective]
    kind: str = "chat"
    """of the files it trains on: pretrain, chat or preference"""
    from_model: bool = True
    """whether it starts from a model"""
    num_labels: int = 0
    """`model.num_labels` of what it trains: 1 is a reward model, also where it starts from a language model"""
    teacher: str = ""
    """the setting that names the model it learns from, if it does"""
    defaults: dict[str, Any] = field(default_factory=dict)
    """settings by section that are not the recipe's own defaults"""
    data: Callable[[Recipe, Tokenizer, str], Split] = load_files
    model: Callable[[Recipe], Transformer] = make_model
    source: Callable[[Setup, Objective], BatchSource] = make_loader
    memory: Callable[[Recipe, int], dict[str, int]] = nothing_else
    """bytes, by name, that each of so many processes holds besides the model it trains"""
    evaluation: Callable[[Setup, Objective], Evaluation] = HeldOutNLL
