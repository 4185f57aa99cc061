"""The model that another one learns from: frozen, no part of what is trained or saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from minimind.data.batches.batch import Batch, valid_positions
from minimind.data.shards.cache import default_cache, make_cache, source_hash
from minimind.errors import UserError, missing_extra
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.distillation import TeacherStates, TopK, top_k
from minimind.model import Transformer
from minimind.model.hf.adapter import find_base, is_adapter
from minimind.model.hf.weights import is_ours, load_model, model_directory
from minimind.recipe import DistillOptions
from minimind.train.setup import Setup
from minimind.util.files import write_json
from minimind.util.json_files import read_json

PROBE = 1e-2  # of the largest logit: more than rounding in half precision, less than what a neighbor changes


class Teacher(Protocol):
    """What is asked of a teacher; without gradients."""

    vocab_size: int

    def hidden(self, batch: Batch) -> torch.Tensor:
        """(B, T, E): what it makes of a packed batch, in which documents do not see each other."""

    def head(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """(N, V): its logits."""


def load_teacher(setup: Setup) -> Teacher:
    """The teacher of a recipe, in the type of the computation and on its device; UserError where it has
    too few tokens, or is not the one that the run began with."""
    directory = model_directory(setup.recipe.distill.teacher)
    teacher_fingerprint(setup)
    make = OurTeacher if is_ours(directory) else TransformersTeacher
    teacher: Teacher = make(directory, setup.model.compute_dtype, setup.device)
    if teacher.vocab_size < (students := setup.model.config.vocab_size):
        raise UserError(f"the teacher {directory} has {teacher.vocab_size} tokens, the student {students}")
    return teacher


def ask_teacher(
    teacher: Teacher, batch: Batch, student: Transformer, options: DistillOptions
) -> TeacherStates | TopK:
    """What a teacher says at the positions that are trained on, of the student's tokens."""
    vocab_size = student.config.vocab_size  # the teacher's matrix may have room for more
    hidden_ND = teacher.hidden(batch).flatten(0, 1)[valid_positions(batch)]
    states = TeacherStates(hidden_ND, lambda hidden_ND: teacher.head(hidden_ND)[:, :vocab_size])
    return top_k(states, options.top_k, options.temperature) if options.top_k else states


def teacher_fingerprint(setup: Setup) -> str:
    """SHA-256 (hex) of the files that decide what the teacher says; UserError where a run began with others."""
    directory, cache = model_directory(setup.recipe.distill.teacher), default_cache()
    directories = [directory, find_base(directory)] if is_adapter(directory) else [directory]
    kinds = ("*.safetensors", "*.bin", "config.json", "adapter_config.json")
    make_cache(cache)
    hashes = [source_hash(file, cache) for one in directories for kind in kinds for file in sorted(one.glob(kind))]
    found, path = hashlib.sha256(json.dumps(hashes).encode()).hexdigest(), setup.run / "teacher.json"
    if path.exists() and read_json(path).get("sha256") != found:
        raise UserError(
            f"the teacher {directory} has changed since {setup.run} began; restore it or use another --out"
        )
    if setup.strategy.is_main and setup.run.is_dir():
        write_json(path, {"directory": str(directory), "sha256": found})
    return found


class OurTeacher:
    """A model of one of our families, dense or with experts."""

    def __init__(self, directory: Path, dtype: torch.dtype, device: torch.device) -> None:
        self.model = load_model(directory, dtype, device).requires_grad_(False)
        self.vocab_size = self.model.config.vocab_size

    @torch.no_grad()
    def hidden(self, batch: Batch) -> torch.Tensor:
        return hidden_states(self.model, batch)

    @torch.no_grad()
    def head(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        return self.model.logits(hidden_ND)


class TransformersTeacher:
    """Any causal model that transformers loads without code of its own.

    transformers finds the documents of a packed sequence by their positions, which begin again at 0. A model that
    does not hold to this, or whose logits are more than a matrix product, is refused after a look at a few tokens.
    """

    def __init__(self, directory: Path, dtype: torch.dtype, device: torch.device) -> None:
        try:
            from transformers import AutoModelForCausalLM
        except ImportError:
            raise missing_extra("transformers", "teacher") from None
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, local_files_only=True)
        except Exception as error:  # of many kinds: a missing file, an unknown architecture, code of its own
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the teacher {directory} cannot be loaded by transformers ({reason})") from None
        model = model.to(device).eval().requires_grad_(False)
        self.decoder: Callable[..., Any] = model.get_decoder()
        self.output: Callable[[torch.Tensor], torch.Tensor] = model.get_output_embeddings()
        positions = torch.arange(8, device=device).repeat(2)[None]
        packed, other = (
            positions,
            torch.cat([positions[:, :8].flip(1), positions[:, 8:]], 1),
        )  # serve as tokens as well
        with torch.no_grad():
            wanted = model(input_ids=packed, position_ids=positions, use_cache=False).logits[0]
            found, beside = (self.head(self._decode(tokens, positions)[0]) for tokens in (packed, other))
        self.vocab_size, most = found.shape[-1], PROBE * wanted.abs().max()
        if found.shape != wanted.shape or (found - wanted).abs().max() > most:
            raise UserError(f"the teacher {directory} cannot be used: its logits are more than a matrix product")
        if (found - beside)[8:].abs().max() > most:
            raise UserError(f"the teacher {directory} cannot be used: documents in one sequence see each other")

    @torch.no_grad()
    def hidden(self, batch: Batch) -> torch.Tensor:
        return self._decode(batch.tokens, batch.positions)

    @torch.no_grad()
    def head(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        return self.output(hidden_ND)

    def _decode(self, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        hidden_BTD: torch.Tensor = self.decoder(
            input_ids=tokens_BT, position_ids=positions_BT, use_cache=False
        ).last_hidden_state
        return hidden_BTD
