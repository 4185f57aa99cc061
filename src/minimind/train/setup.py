"""What a training stands on: gathered by `stages.launch`, handed to the stage's parts and to the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minimind.data.batches.documents import Documents
from minimind.model import Transformer
from minimind.recipe import Recipe
from minimind.tokenizer import Tokenizer
from minimind.train.console import TrainingConsole
from minimind.train.strategies import Strategy


@dataclass
class Setup:
    """A recipe, and everything that was made of it before the first step."""

    recipe: Recipe
    run: Path
    tokenizer: Tokenizer
    model: Transformer
    data: Documents
    train_documents: np.ndarray
    """indices into `data` of the documents to train on"""
    held_out: np.ndarray
    """and of those that are kept for evaluation"""
    strategy: Strategy
    console: TrainingConsole

    @property
    def device(self) -> torch.device:
        return self.strategy.device
