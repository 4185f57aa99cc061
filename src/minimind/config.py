"""Settings: a dataclass, YAML files and command-line flags become one checked instance.

A configuration is a dataclass whose fields are plain values (int, float, bool, str, None, Literal, lists of
these) or sections, which are such dataclasses again. A setting's key is its path, `model.hidden_size`; the
text below a field is its help. Later layers win: declared defaults < stage defaults < recipe files < flags.
Nothing is ignored: an unknown key, a key given twice or a value of the wrong type is refused in one sentence
that says where it stands.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from minimind.errors import UserError
from minimind.util.plain_yaml import PlainLoader
from minimind.util.suggest import nearest
from minimind.util.typed import convert, expected, from_words, hints, kinds, options

T = TypeVar("T")
MISSING = dataclasses.MISSING

# Names people bring from the public MiniMind and elsewhere -> our key, or what to do in words.
TOKENS = "use batch.tokens_per_step: a step is measured in tokens, and its micro-batches are counted for you"
WARMUP = "use schedule.warmup: a part of all steps (0.05), not a number of steps"
PRECISION = "use precision: auto, fp32, bf16 or fp16"
ALIASES: dict[str, str] = {
    "dim": "model.hidden_size",
    "d_model": "model.hidden_size",
    "n_embd": "model.hidden_size",
    "n_layers": "model.num_hidden_layers",
    "n_layer": "model.num_hidden_layers",
    "num_layers": "model.num_hidden_layers",
    "n_heads": "model.num_attention_heads",
    "n_head": "model.num_attention_heads",
    "n_kv_heads": "model.num_key_value_heads",
    "num_kv_heads": "model.num_key_value_heads",
    "norm_eps": "model.rms_norm_eps",
    "use_moe": "use --model.model_type qwen3_moe, or a preset with experts; `minimind models list` names them",
    "n_routed_experts": "model.num_experts",
    "num_local_experts": "model.num_experts",
    "aux_loss_alpha": "router.weight",
    "router_aux_loss_coef": "router.weight",
    "seq_aux": "use router.balance: document, global, bias or none",
    "max_seq_len": "batch.seq_len",
    "seq_len": "batch.seq_len",
    "gradient_checkpointing": "activation_checkpointing",
    "block_size": "batch.seq_len",
    "inference_rope_scaling": "use model.rope_scaling.rope_type yarn and model.rope_scaling.factor 4",
    "batch_size": TOKENS,
    "accumulation_steps": TOKENS,
    "gradient_accumulation_steps": TOKENS,
    "lr": "optimizer.learning_rate",
    "clip_grad": "optimizer.grad_clip",
    "max_grad_norm": "optimizer.grad_clip",
    "warmup_iters": WARMUP,
    "warmup_steps": WARMUP,
    "warmup_ratio": "schedule.warmup",
    "num_train_epochs": "budget.epochs",
    "max_steps": "budget.steps",
    "max_iters": "budget.steps",
    "eval_interval": "evaluation.every",
    "save_interval": "checkpoint.every",
    "save_steps": "checkpoint.every",
    "log_interval": "log_every",
    "logging_steps": "log_every",
    "dtype": PRECISION,
    "bf16": PRECISION,
    "fp16": PRECISION,
    "use_compile": "compile",
    "data_path": "use --data FILE…",
    "tokenizer_path": "tokenizer",
    "from_weight": "use --from MODEL",
    "from_resume": "an unfinished run is continued by the same command with the same --out RUN",
    "reward_model": "use rl.rewards: model=1,path=DIRECTORY",
    "out_dir": "use --out RUN",
    "save_dir": "use --out RUN",
    "output_dir": "use --out RUN",
}

# Keys of older recipes -> today's. Files with them are read; a flag is answered with the new one.
RENAMED: dict[str, str] = {
    "batch.row_length": "batch.seq_len",
    "schedule.cooldown": "schedule.decay",
    "schedule.final": "schedule.min_lr_ratio",
    "recompute": "activation_checkpointing",
    "start": "init_from",
    "grpo.prompts": "rl.prompts",
    "grpo.group_size": "rl.group_size",
    "grpo.max_tokens": "rl.max_tokens",
    "grpo.temperature": "rl.temperature",
    "grpo.clip_low": "rl.clip_low",
    "grpo.clip_high": "rl.clip_high",
    "grpo.kl_weight": "rl.kl_weight",
    "grpo.questions": "rl.questions",
}


class Setting(NamedTuple):
    """One leaf of a configuration type."""

    hint: Any
    default: Any  # MISSING where a value must be given
    help: str


class Entry(NamedTuple):
    """A value from one of the layers, and where it stands: `recipe.yaml:12`, `--model.hidden_size`."""

    value: Any
    where: str


def load(
    config_type: type[T],
    argv: Sequence[str] = (),
    files: Sequence[Path] = (),
    defaults: Mapping[str, Any] | None = None,
) -> T:
    """The configuration from all layers: declared defaults < `defaults` (nested) < `files` < flags in `argv`.

    Raises UserError for an unreadable file, an unknown or repeated key, a missing or badly typed value.
    """
    return build(config_type, read(config_type, argv, files, defaults))


def read(
    config_type: type,
    argv: Sequence[str] = (),
    files: Sequence[Path] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the layers of `load` give, by key: checked one by one, not yet against each other."""
    known = settings(config_type)
    if {"-h", "--help"} & set(argv):
        print(describe(config_type, defaults))
        raise SystemExit(0)
    entries: dict[str, Entry] = {}
    for key, value in flatten(defaults or {}).items():
        if value is not None or not any(name.startswith(key + ".") for name in known):  # None: no such section
            enter(entries, known, key, value, "stage defaults")
    for file in files:
        entries |= read_yaml(Path(file), known)
    entries |= read_flags(argv, known)
    return {key: value for key, (value, _) in entries.items()}


# ---------------------------------------------------------------------------------------- the dataclass


def settings(config_type: type, prefix: str = "", owner: Any = MISSING) -> dict[str, Setting]:
    """Every setting of a configuration type by key, in the order of declaration."""
    result: dict[str, Setting] = {}
    helps = docstrings(config_type)
    for field, hint in fields(config_type):
        key, default, section = prefix + field.name, default_of(field, hint, owner), section_type(hint)
        if section:
            result |= settings(section, key + ".", MISSING if default is None else default)
        else:
            result[key] = Setting(hint, default, helps.get(field.name, ""))
    return result


def fields(config_type: type) -> list[tuple[dataclasses.Field, Any]]:
    declared = hints(config_type)
    return [(field, declared[field.name]) for field in dataclasses.fields(config_type) if field.init]


def section_type(hint: Any) -> Any:
    """The dataclass of a field that is a section (`Model` or `Model | None`), None for a plain value."""
    return next((option for option in options(hint) if dataclasses.is_dataclass(option)), None)


def default_of(field: dataclasses.Field, hint: Any, owner: Any) -> Any:
    """The field's value in its owner's default instance, if there is one, or else as declared."""
    if owner is not MISSING:
        return getattr(owner, field.name)
    if field.default_factory in (MISSING, hint):  # a section's own type gives no default beyond its fields'
        return field.default
    return field.default_factory()  # type: ignore[operator,misc]


@functools.cache
def docstrings(config_type: type) -> dict[str, str]:
    """The string literal below each field, inherited fields included."""
    texts: dict[str, str] = {}
    for owner in filter(dataclasses.is_dataclass, reversed(config_type.__mro__)):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body  # type: ignore[attr-defined]
        for line, below in itertools.pairwise(body):
            match line, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = inspect.cleandoc(text)
    return texts


def build(config_type: type[T], values: Mapping[str, Any], prefix: str = "", owner: Any = MISSING) -> T:
    """Make an instance from values by key.

    A field is passed to the constructor only when it was given, so that what `__post_init__` derives from
    other fields is derived from their final values.
    """
    arguments: dict[str, Any] = {}
    for field, hint in fields(config_type):
        key, default, section = prefix + field.name, default_of(field, hint, owner), section_type(hint)
        if section:
            if default is not None or any(name.startswith(key + ".") for name in values):
                arguments[field.name] = build(section, values, key + ".", MISSING if default is None else default)
        elif key in values:
            arguments[field.name] = values[key]
        elif default is MISSING:
            raise UserError(f"{key} has no value: give it in a recipe file or with --{key}")
    return config_type(**arguments) if owner is MISSING else dataclasses.replace(owner, **arguments)


# --------------------------------------------------------------------------------------------- the layers


def enter(layer: dict[str, Entry], known: Mapping[str, Setting], key: str, value: Any, where: str) -> None:
    """Check one value and put it into a layer."""
    if key not in known:
        raise UserError(f"unknown setting '{key}' ({where}); {advice(key, known)}")
    if key in layer:
        raise UserError(f"{key} is given twice ({layer[key].where} and {where}); keep one")
    try:
        layer[key] = Entry(convert(value, known[key].hint), where)
    except ValueError:
        raise UserError(f"{key}: expected {expected(known[key].hint)}, got {value!r} ({where})") from None


def advice(key: str, known: Mapping[str, Setting]) -> str:
    """What to write instead of a key that does not exist."""
    name = key.replace("-", "_")
    last = name.rpartition(".")[2]
    by_old_name = {old.rpartition(".")[2]: new for old, new in RENAMED.items()}
    if alias := RENAMED.get(name) or ALIASES.get(name) or ALIASES.get(last) or by_old_name.get(last):
        return alias if " " in alias else f"it is called {alias} here"
    by_last = {ours.rpartition(".")[2]: ours for ours in reversed(list(known))}
    match = nearest(name, known, cutoff=0.7) if "." in name else None  # the section was named: that counts
    match = match or by_last.get(nearest(last, by_last, cutoff=0.7) or "")
    return f"did you mean {match}?" if match else "--help lists all settings"


def read_yaml(file: Path, known: Mapping[str, Setting]) -> dict[str, Entry]:
    """The settings in a YAML file, each with its line."""
    layer: dict[str, Entry] = {}
    try:
        loader = PlainLoader(file.read_text(encoding="utf-8"))
        for key, node, line in leaves(loader.get_single_node(), str(file), known):
            value = loader.construct_object(node, deep=True)  # type: ignore[no-untyped-call]
            enter(layer, known, today(key, known), value, f"{file}:{line}")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{file}:{line}: not plain YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not plain YAML in UTF-8: {error}") from None
    return layer


def leaves(
    node: yaml.Node | None, file: str, known: Mapping[str, Setting], prefix: str = ""
) -> Iterator[tuple[str, yaml.Node, int]]:
    """(key, value node, line) of a YAML document: nodes know their line, and a dict forgets repeated keys."""
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(node, yaml.MappingNode):
        name = f"section {prefix[:-1]}" if prefix else "file"
        raise UserError(f"{file}:{node.start_mark.line + 1}: the {name} must consist of `key: value` lines")
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        if any(name.startswith(key + ".") for name in known):
            yield from leaves(value_node, file, known, key + ".")
        else:
            yield key, value_node, key_node.start_mark.line + 1


def today(key: str, known: Mapping[str, Any]) -> str:
    """A key as it is called today."""
    return RENAMED.get(key, key) if key not in known else key


def read_flags(argv: Sequence[str], known: Mapping[str, Setting]) -> dict[str, Entry]:
    """The settings among `--key value`, `--key=value`, `--list a b c` and `--switch` (true)."""
    flags: list[tuple[str, list[str]]] = []
    for word in argv:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            flags.append((key, [value] if equals else []))
        elif flags:
            flags[-1][1].append(word)
        else:
            raise UserError(f"what is '{word}'? settings are written --key value; --help lists them")
    layer: dict[str, Entry] = {}
    for key, words in flags:
        if key in known and not any(words) and not {bool, list, tuple} & kinds(known[key].hint):
            raise UserError(f"--{key} needs a value: {expected(known[key].hint)}")
        enter(layer, known, key, from_words(words, known[key].hint) if key in known else words, f"--{key}")
    return layer


# ------------------------------------------------------------------------------ writing, comparing, helping


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts of plain values."""
    values = {field.name: getattr(config, field.name) for field, _ in fields(type(config))}
    return {name: to_dict(v) if dataclasses.is_dataclass(v) else v for name, v in values.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict by key: `{"model": {"hidden_size": 8}}` becomes `{"model.hidden_size": 8}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def dump(config: Any) -> str:
    """The configuration as YAML; `load` of it gives an equal one."""
    return yaml.dump(to_dict(config), Dumper=Dumper, sort_keys=False, allow_unicode=True)


class Dumper(yaml.SafeDumper):
    """Quotes Unicode's own line breaks, which PyYAML would write as they are and not read back."""


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, represent_text)


def diff(a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) of every setting in which two configurations of one type differ."""
    old, new = flatten(to_dict(a)), flatten(to_dict(b))
    return [(key, old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)]


def describe(config_type: type, defaults: Mapping[str, Any] | None = None) -> str:
    """The text for `--help`: every setting with its type, default (a stage's own, if given) and help."""
    known, overrides = settings(config_type), flatten(defaults or {})
    helps = docstrings(config_type)
    lines, section = ["settings, also in a recipe file:"], ""
    for key, setting in known.items():
        if section != (section := key.rpartition(".")[0]):
            lines += ["", *paragraph(f"{section}: {helps[section]}" if section in helps else "", 2)]
        default = overrides.get(key, setting.default)
        text = default if isinstance(default, str) and default else json.dumps(default, default=str)
        shown = "required" if default is MISSING else f"default {text}"
        lines += [f"  --{key}  {expected(setting.hint)} ({shown})", *paragraph(setting.help, 6)]
    example = max(known, key=lambda key: type(known[key].default) is int)  # the first whole number
    nested = "".join("\n" + "  " * depth + f"    {name}:" for depth, name in enumerate(example.split(".")))
    value = known[example].default
    return "\n".join([*lines, "", f"example:\n  --{example} {value}\nor, in a recipe file,{nested} {value}"])


def paragraph(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(" ".join(text.split()), 100, initial_indent=margin, subsequent_indent=margin)
