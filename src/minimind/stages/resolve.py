"""From settings to a complete recipe: stage, preset, recipe files, flags and start model brought together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from minimind import config
from minimind.errors import UserError
from minimind.model import ModelConfig
from minimind.model.config import RopeScaling
from minimind.model.hf.config import read_config
from minimind.model.hf.weights import model_directory
from minimind.model.rope import scale_rope
from minimind.plan.derive import derive
from minimind.presets import preset_fields
from minimind.recipe import BatchOptions, Recipe
from minimind.stages import STAGES
from minimind.stages.stage import Stage
from minimind.tokenizer import Tokenizer

SCALING = "model.rope_scaling."


def resolve(
    stage: str, flags: list[str], files: list[Path], given: dict[str, Any], run: Path | None = None
) -> Recipe:
    """The complete recipe: preset or start model < stage defaults < recipe files < flags < `given`; then derived
    settings (see plan.derive) where nobody named a value, for a `run` to be resumed those it has.

    The model's shape comes from the start model where there is one; a vocabulary that nobody named is the
    tokenizer's, and a trained length that nobody named is the sequence length. UserError for what does not fit
    together.
    """
    definition = STAGES[stage]
    in_files = config.read(Recipe, files=files, defaults={"stage": stage, **definition.defaults})
    in_flags = {**config.read(Recipe, flags), **given}
    if any(key.startswith("budget.") for key in in_flags):  # it takes the place of the recipe's, whatever its unit
        in_files = {key: value for key, value in in_files.items() if not key.startswith("budget.")}
    settings = {**in_files, **in_flags}
    if settings["stage"] != stage:
        raise UserError(f"the recipe is for the stage {settings['stage']}, not for {stage}")
    if definition.teacher:
        settings |= _with_teacher(definition, settings)
    if settings.get("init_from"):
        directory, shape = _start_model(settings, definition.num_labels)
        settings |= {"init_from": directory, "tokenizer": directory}
    elif definition.from_model:
        raise UserError(f"{stage} starts from a model: name its directory with --from")
    elif not settings.get("tokenizer"):
        raise UserError(
            "pretraining needs a tokenizer: train one with `minimind tokenizer train --data FILE --out DIR`, "
            "then give --tokenizer DIR"
        )
    else:
        preset = preset_fields(settings["preset"]) if settings.get("preset") else {}
        shape = {"vocab_size": Tokenizer.load(settings["tokenizer"]).vocab_size, **preset}
        if settings.get(SCALING + "original_max_position_embeddings") is None:
            shape["original_max_position_embeddings"] = _seq_len(settings)
    recipe = derive(config.build(Recipe, {**config.flatten({"model": shape}), **settings}), run)
    _check(recipe)
    return recipe


def _with_teacher(stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
    """What the teacher decides: the tokenizer, of a model from scratch. The same ids must be the same tokens."""
    if not settings.get(stage.teacher):
        raise UserError(f"{stage.name} learns from another model: name its directory with --{stage.teacher}")
    teacher = str(model_directory(settings[stage.teacher]))
    start = settings.get("init_from")
    student = str(model_directory(start)) if start else settings.get("tokenizer") or teacher
    if Tokenizer.load(teacher).backend.get_vocab() != Tokenizer.load(student).backend.get_vocab():
        raise UserError(
            f"the teacher {teacher} has another vocabulary than the student's, {student}; choose a teacher with "
            "the same, or learn from its answers alone"
        )
    return {} if start else {"tokenizer": student}


def _check(recipe: Recipe) -> None:
    """Refuse settings that contradict each other or the tokenizer."""
    recorded, seq_len = recipe.model.original_max_position_embeddings, recipe.batch.seq_len
    if not recipe.init_from and recipe.model.rope_scaling is None and recorded not in (None, seq_len):
        raise UserError(
            f"model.original_max_position_embeddings {recorded} is the length a model was trained at, and this one "
            f"is trained at batch.seq_len {seq_len}; leave it out or make them equal"
        )
    if recipe.model.num_labels != STAGES[recipe.stage].num_labels:
        raise UserError("model.num_labels is 1 for the stage reward and 0 for all others; leave it out")
    if not recipe.lora.rank and "lora" in STAGES[recipe.stage].defaults:
        raise UserError(
            f"lora.rank 0 is no adapter, and the stage {recipe.stage} trains one; give it a rank, or train all "
            "weights by the stage sft"
        )
    if recipe.router.balance == "bias" and recipe.model.family.experts and not recipe.model.family.sigmoid:
        kind = recipe.model.model_type
        raise UserError(f"router.balance bias needs model_type glm4_moe: the routers of {kind} have no bias")
    if recipe.lora.rank and recipe.router.balance == "bias":
        raise UserError("router.balance bias moves biases of the frozen base, which an adapter does not keep")
    if recipe.lora.rank and not recipe.init_from:
        raise UserError("lora.rank: an adapter needs a model to adapt; name one with --from")
    if recipe.lora.base_bits != 32 and not recipe.lora.rank:
        raise UserError("lora.base_bits is for the frozen base of an adapter; set lora.rank, or leave it out")
    vocab_size = Tokenizer.load(recipe.tokenizer).vocab_size
    if vocab_size > recipe.model.vocab_size:
        raise UserError(
            f"the tokenizer {recipe.tokenizer} has {vocab_size} ids, more than model.vocab_size "
            f"{recipe.model.vocab_size}; raise that or train a smaller tokenizer"
        )


def _start_model(settings: dict[str, Any], num_labels: int) -> tuple[str, dict[str, Any]]:
    """The directory of the model that settings start from, and its shape as it is trained on.

    The settings may stretch its positions, claim a longest context, and name a trained length that it does not
    record; nothing else in them may differ from it. With `num_labels`, a language model becomes a reward model.
    """
    directory = model_directory(settings["init_from"])
    if settings.get("preset"):
        raise UserError(f"with --from the model's shape is that of {directory}; leave out --preset")
    asked = {key: value for key, value in settings.items() if key.startswith("model.")}
    model = read_config(directory)
    if model.num_labels > num_labels:
        raise UserError(f"{directory} is a reward model, which only the stage reward trains on; start from another")
    model = _lengthened(dataclasses.replace(model, num_labels=num_labels), asked, _seq_len(settings))
    shape = {name: value for name, value in config.to_dict(model).items() if value is not None}
    flat = config.flatten({"model": shape})
    for key, value in asked.items():
        if value != flat.get(key):
            raise UserError(
                f"with --from the model's shape is that of {directory}: {key} is then {flat.get(key)}, "
                f"not {value}; leave it out"
            )
    tokenizer = settings.get("tokenizer")
    if tokenizer and Tokenizer.load(tokenizer).fingerprint != Tokenizer.load(directory).fingerprint:
        raise UserError(f"the tokenizer {tokenizer} is not that of {directory}; leave --tokenizer out")
    return str(directory), shape


def _lengthened(model: ModelConfig, asked: dict[str, Any], seq_len: int) -> ModelConfig:
    """A start model with its positions stretched as asked, or else with rows of this length on record.

    A stretched model keeps on record the length it was trained at before it was stretched. One that records
    nothing goes on without: what it learned before is not known to be shorter than these rows.
    """
    trained = model.original_max_position_embeddings or asked.get("model.original_max_position_embeddings")
    scaling = {key.removeprefix(SCALING): value for key, value in asked.items() if key.startswith(SCALING)}
    old = model.rope_scaling
    if any(old is None or value != getattr(old, name) for name, value in scaling.items()):
        trained = trained or scaling.pop("original_max_position_embeddings", None)
        new = dataclasses.replace(old or RopeScaling(), **scaling)
        model = scale_rope(model, new.factor, new.rope_type, trained)
        completed = dataclasses.replace(
            new, original_max_position_embeddings=model.original_max_position_embeddings
        )
        model = dataclasses.replace(model, rope_scaling=completed)
    elif old is None and trained:
        model = dataclasses.replace(model, original_max_position_embeddings=max(trained, seq_len))
    longest = asked.get("model.max_position_embeddings", model.max_position_embeddings)
    return dataclasses.replace(model, max_position_embeddings=longest)


def _seq_len(settings: dict[str, Any]) -> int:
    return settings.get("batch.seq_len", BatchOptions.seq_len)
