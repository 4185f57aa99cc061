"""The model card: what a model's directory and the run it lies in record, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import minimind
from minimind.model import ModelConfig
from minimind.model.count import count_parameters
from minimind.model.hf.adapter import find_base, is_adapter, read_settings
from minimind.model.hf.merge import RECORD
from minimind.runs.read import Run, read_mapping, read_run
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.tokenizer import well_formed
from minimind.util.json_files import read_json

SETTINGS = (
    "preset",
    "batch.tokens_per_step",
    "batch.seq_len",
    "optimizer.name",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "schedule.kind",
    "schedule.warmup",
    "schedule.decay",
    "precision",
    "seed",
)
"""what of a recipe is shown of every training"""
ROUTER_SETTINGS = ("router.balance", "router.weight")

CHAT_USE = """\
messages = [{"role": "user", "content": "Hello!"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=256)
print(tokenizer.decode(answer[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""
TEXT_USE = """\
prompt = tokenizer(tokenizer.bos_token + "Once upon a time", return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=64)
print(tokenizer.decode(answer[0], skip_special_tokens=True))
"""

Rows = list[list[Any]]


@dataclass(frozen=True)
class About:
    """What the export itself decided."""

    name: str
    dtype: str
    files: int
    """number of files with weights"""
    bytes: int
    """their size"""
    license: str | None
    languages: list[str]


@dataclass(frozen=True)
class Training:
    """The run that made some weights, and how far it was then; None is not recorded."""

    run: Run
    step: int | None
    tokens: int | None
    seconds: float | None

    @property
    def data(self) -> dict[str, Any]:
        return read_mapping(self.run.path / "data.json")


def card(directory: Path, config: ModelConfig, tokenizer: Tokenizer | None, about: About) -> str:
    """The card of the model in `directory`, as Markdown with the hub's YAML in front."""
    trainings = history(directory)
    stages = [training.run.stage for training in trainings]
    chats = tokenizer is not None and tokenizer.chat_template is not None and stages[-1:] != ["pretrain"]
    sections = [
        front_matter(about, stages, chats),
        f"# {about.name}",
        introduction(config, stages) + merged(directory),
        "## Model",
        table(["", ""], model_rows(config, about)),
        "## Training",
        training_section(trainings, config),
    ]
    if trainings and (scores := score_section(directory, trainings[-1])):
        sections += ["## Scores", *scores]
    sections += ["## Use", use_section(about.name, tokenizer is not None, chats)]
    return "\n\n".join(sections) + "\n\n"


# ------------------------------------------------------------------------------------- what is recorded


def run_directory(directory: Path) -> Path | None:
    """Where the run is whose model/, best/ or checkpoint a directory is, going by its name."""
    if directory.name in ("model", "best"):
        return directory.parent
    return directory.parents[1] if directory.parent.name == "checkpoints" else None


def trained(directory: Path) -> Training | None:
    """What made the weights of a model directory; None for one that lies in no run."""
    directory = directory.resolve()
    home = run_directory(directory)
    if home is None or not (home / "state.json").is_file():
        return None
    run = read_run(home)
    reached: dict[str, Any] = {}
    if directory.name == "best":
        # The best is written with each evaluation that is better than all before; NaN never is.
        scored = [line for line in run.evaluations if line["eval"].get("bits_per_byte", math.inf) < math.inf]
        reached = min(scored, key=lambda line: line["eval"]["bits_per_byte"], default={})
    elif directory.name != "model":
        reached = read_mapping(directory / "progress.json")
    elif run.status == "finished":  # else model/ is that of an earlier end, which the state has forgotten
        reached = run.state
    return Training(run, reached.get("step"), reached.get("tokens"), reached.get("seconds"))


def history(directory: Path) -> list[Training]:
    """The trainings that led to a model, the first of them first, as far back as they can be found.

    A model that a training started from counts if its run ended before that: else it is another one by now.
    """
    trainings: list[Training] = []
    training = trained(directory)
    while training is not None:
        trainings.insert(0, training)
        start = training.run.recipe.get("init_from")
        older = trained(Path(start)) if start else None
        if older is not None and older.run.state.get("ended", math.inf) > training.run.state.get("started", 0):
            older = None
        training = older
    return trainings


# --------------------------------------------------------------------------------------------- sections


def front_matter(about: About, stages: Sequence[str], chats: bool) -> str:
    content: dict[str, Any] = {"language": about.languages} if about.languages else {}
    if about.license:
        content["license"] = about.license
    tags = ["minimind", *stages[-1:], *(["conversational"] if chats else [])]
    content |= {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags}
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def introduction(config: ModelConfig, stages: Sequence[str]) -> str:
    counts = count_parameters(config)
    active = f", {counts['active']:,} of them active for a token" if config.family.experts else ""
    trained = f" It was trained in this order: {', '.join(stages)}." if len(stages) > 1 else ""
    return (
        f"A causal language model with {counts['total']:,} parameters{active}.{trained} "
        f"This card holds what MiniMind {minimind.__version__} found recorded of it, and nothing else."
    )


def merged(directory: Path) -> str:
    """What the card says of weights into which an adapter was merged, or that several models were merged into."""
    if (directory / RECORD).is_file():
        return f" {merged_models(read_json(directory / RECORD))}"
    if not is_adapter(directory):
        return ""
    rank, base = read_settings(directory).get("r"), find_base(directory)
    name = (run_directory(base) or base).name
    return f" A LoRA adapter of rank {rank} was trained on `{name}` and is merged into these weights."


def merged_models(record: dict[str, Any]) -> str:
    paths = [Path(one["path"]) for one in (*record["models"], *filter(None, [record.get("base")]))]
    names = [f"`{(run_directory(path) or path).name}`" for path in paths]
    if "base" in record:
        names[-1] = f"the base {names[-1]}"
    return f"Its weights are a merge ({record['method']}) of {', '.join(names[:-1])} and {names[-1]}."


def model_rows(config: ModelConfig, about: About) -> Rows:
    counts = count_parameters(config)
    rows: Rows = [["class in transformers", f"`{config.architecture}`"], ["parameters", counts["total"]]]
    if config.family.experts:
        shared = f", {config.n_shared_experts} shared" if config.n_shared_experts else ""
        rows += [
            ["active for a token", counts["active"]],
            ["experts", f"{config.num_experts}, {config.num_experts_per_tok} of them for a token{shared}"],
            ["width of an expert", config.moe_intermediate_size],
        ]
    else:
        rows.append(["feed-forward width", config.intermediate_size])
    kv_heads = config.num_key_value_heads
    heads = f"{config.num_attention_heads} of {config.head_dim} channels, {kv_heads} for keys and values"
    rows += [
        ["layers × width", f"{config.num_hidden_layers} × {config.hidden_size:,}"],
        ["attention heads", heads],
        ["vocabulary", config.vocab_size],
        ["context in tokens", config.context_length],
        ["rotary theta", f"{config.rope_theta:,.0f}"],
    ]
    if scaling := config.rope_scaling:
        rows.append(["rotary positions stretched", f"{scaling.rope_type}, factor {scaling.factor:g}"])
    files = "1 file" if about.files == 1 else f"{about.files} files"
    return [*rows, ["weights", f"{about.dtype}, {about.bytes:,} bytes in {files}"]]


def training_section(trainings: Sequence[Training], config: ModelConfig) -> str:
    if not trainings:
        return "Nothing is recorded of how this model was trained."
    names = [training.run.stage for training in trainings]
    columns = [training_facts(training, config) for training in trainings]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    rows = [row for row in rows if any(value not in (None, "") for value in row[1:])]
    files = [[name, *row] for name, training in zip(names, trainings) for row in data_rows(training)]
    parts = [table(["", *names], rows), table(["stage", "data", "SHA-256"], files)]
    if trainings[-1].step is None:
        parts.append("How far the training was when these weights were written is not recorded.")
    return "\n\n".join(parts)


def training_facts(training: Training, config: ModelConfig) -> dict[str, Any]:
    """Name and value of everything shown of one training; None for what is not recorded."""
    run, data = training.run, training.data
    start = run.recipe.get("init_from")
    facts = {
        "started from": start and (run_directory(Path(start)) or Path(start)).name,
        "steps": training.step,
        "tokens read": training.tokens,
        "minutes": training.seconds and f"{training.seconds / 60:.1f}",
        "documents in the data": data.get("documents"),
        "tokens in the data": data.get("tokens"),
    }
    settings = [*SETTINGS, *(ROUTER_SETTINGS if config.family.experts else ())]
    facts |= {f"`{name}`": run.recipe.get(name) for name in settings}
    held_out = run.recipe.get("evaluation.holdout")
    facts["held out of the data"] = None if held_out is None else f"{held_out:.1%}"
    facts |= {name: run.environment.get(key) for name, key in (("PyTorch", "torch"), ("MiniMind", "minimind"))}
    return facts


def data_rows(training: Training) -> Rows:
    """Name and hash of each file trained on, then of all of it as it was prepared."""
    data = training.data
    files = data.get("sources") or training.run.recipe.get("data") or []
    hashes = data.get("sha256") or [None] * len(files)
    rows: Rows = [[f"`{Path(file).name}`", f"`{sha}`" if sha else None] for file, sha in zip(files, hashes)]
    if fingerprint := data.get("fingerprint"):
        rows.append(["tokens as prepared", f"`{fingerprint}`"])
    return rows


def score_section(directory: Path, training: Training) -> list[str]:
    """Results of exactly these weights: on held-out documents, and of the questions that the quickstart asks."""
    parts = []
    measured = [line["eval"] for line in training.run.evaluations if line["step"] == training.step]
    for scores in (line for line in measured if "bits_per_byte" in line):
        rows: Rows = [
            ["bits per byte", f"{scores['bits_per_byte']:.4f}"],
            ["loss in nats per token", f"{scores['loss']:.4f}"],
            ["measured on so many tokens", scores.get("held_out_tokens")],
        ]
        parts += ["On documents of the same data that were held out:", table(["", ""], rows)]
    result = read_mapping(training.run.path / "result.json")
    if result and directory.name == "model" and result.get("tokens") == training.tokens:
        skills = result["skills"]
        rows = [[name, *skill_cells(score)] for name, score in skills["skills"].items()]
        rows.append(["mean", *skill_cells(skills["macro"])])
        parts += [
            "Questions about the world of the quickstart that were held out, answered without sampling; "
            f"{skills['stopped']:.2%} of the answers ended by themselves:",
            table(["skill", "right", "95% interval", "questions"], rows),
        ]
    return parts


def skill_cells(score: dict[str, Any]) -> list[Any]:
    return [f"{score['accuracy']:.1%}", f"{score['low']:.1%} to {score['high']:.1%}", score.get("total")]


def use_section(name: str, has_tokenizer: bool, chats: bool) -> str:
    where = f'path = "{name}"  # this directory, or its name on the hub\n'
    if not has_tokenizer:
        code = f"from transformers import AutoModelForCausalLM\n\n{where}"
        code += 'model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")\n'
        return f"The tokenizer is not part of it.\n\n```python\n{code}```"
    code = f"from transformers import AutoModelForCausalLM, AutoTokenizer\n\n{where}"
    code += "tokenizer = AutoTokenizer.from_pretrained(path)\n"
    code += 'model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")\n'
    code += CHAT_USE if chats else TEXT_USE
    ours = f'from minimind import Model\n\nmodel = Model.load("{name}")\n'
    ours += (
        'print(model.chat([{"role": "user", "content": "Hello!"}])["content"])\n'
        if chats
        else 'print(model.predict("Once upon a time", max_tokens=64))\n'
    )
    return f"With transformers, no remote code:\n\n```python\n{code}```\n\nWith MiniMind:\n\n```python\n{ours}```"


def table(header: Sequence[str], rows: Rows) -> str:
    lines = [header, ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    if value is None:
        return ""
    text = well_formed(f"{value:,}" if type(value) is int else str(value))
    return text.replace("|", "\\|").replace("\n", " ")
