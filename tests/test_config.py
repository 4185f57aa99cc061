"""Settings from defaults, YAML and flags: layers, types, and one sentence for every mistake."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minimind import config
from minimind.errors import UserError
from minimind.infer.sampler import SamplingParams
from minimind.recipe import Recipe as TrainingRecipe
from minimind.util.typed import Range, convert, kinds, range_of


@dataclass(frozen=True)
class Model:
    hidden_size: int = 64
    """Width of the residual stream."""
    head_dim: int | None = None
    """Channels of a head; by default hidden_size / 4."""
    rope_theta: float = 1e6
    tie: bool = True
    """Share the embedding with the output."""

    def __post_init__(self):
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.hidden_size // 4)


@dataclass(frozen=True)
class Adapter:
    rank: int = 8
    targets: list[str] = field(default_factory=lambda: ["q_proj"])


@dataclass(frozen=True)
class Recipe:
    name: str = "run"
    model: Model = field(default_factory=Model)
    big: Model = field(default_factory=lambda: Model(hidden_size=512, head_dim=64))
    adapter: Adapter | None = None
    """Small matrices"""
    lr: float | Literal["auto"] = "auto"
    kind: Literal["adamw", "muon"] = "muon"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    steps: int | None = None
    """When to stop.

    In steps.
    """
    note: str | None = None


@dataclass(frozen=True)
class Inherited(Model):
    """Has a required setting and an inherited docstring."""

    extra: int = field(kw_only=True)


def load(*argv: str, yaml: str = "", tmp: Path | None = None, **defaults) -> Recipe:
    files = []
    if tmp is not None:
        files.append(tmp / "recipe.yaml")
        files[0].write_text(yaml, encoding="utf-8")
    return config.load(Recipe, list(argv), files, defaults)


def mistake(*argv: str, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load(*argv, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_alone():
    assert load() == Recipe()
    assert load().big == Model(hidden_size=512, head_dim=64)


def test_layers_later_wins(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("name: first\nsteps: 5\nmodel:\n  hidden_size: 128\n")
    second.write_text("steps: 6\nlr: 1e-3\nmodel.rope_theta: 5\n")
    recipe = config.load(
        Recipe, ["--steps", "7"], [first, second], {"name": "stage", "note": "stage", "model": {"tie": False}}
    )
    assert recipe == Recipe(
        name="first",
        note="stage",
        steps=7,
        lr=1e-3,
        model=Model(hidden_size=128, rope_theta=5.0, tie=False, head_dim=32),
    )


def test_derived_fields_follow_the_final_values():
    assert load("--model.hidden_size", "512").model.head_dim == 128
    assert load("--big.hidden_size=256").big == Model(hidden_size=256, head_dim=64)


def test_flags():
    recipe = load(
        "--model.tie=false",
        "--betas",
        "0.8",
        "-1e-1",
        "--lr",
        "auto",
        "--steps=1e9",
        "--note",
        "null",
        "--name",
        "-x",
    )
    assert not recipe.model.tie
    assert recipe.betas == [0.8, -0.1]
    assert (recipe.lr, recipe.steps, recipe.note, recipe.name) == ("auto", 10**9, None, "-x")
    assert load("--model.tie", "--name", "r").model.tie is True
    assert load("--betas").betas == []
    assert load("--name", "5").name == "5"


def test_optional_section(tmp_path):
    assert load().adapter is None
    assert load("--adapter.rank", "4").adapter == Adapter(rank=4)
    assert load(yaml="adapter: null\nmodel:\n", tmp=tmp_path) == Recipe()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("3", 3.0), ("1_000.5", 1000.5), ("'2'", 2.0)],
)
def test_yaml_numbers(tmp_path, text, value):
    theta = load(yaml=f"model:\n  rope_theta: {text}\n", tmp=tmp_path).model.rope_theta
    assert theta == value
    assert type(theta) is float


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model:\n  hidden_size: wide", "model.hidden_size: expected a whole number, got 'wide' ({}:2)"),
        ("model:\n  hidden_size: 1.5", "model.hidden_size: expected a whole number, got 1.5 ({}:2)"),
        ("model:\n  hidden_size: true", "model.hidden_size: expected a whole number, got True ({}:2)"),
        ("model:\n  hidden_size:", "model.hidden_size: expected a whole number, got None ({}:2)"),
        ("model:\n  tie: 1", "model.tie: expected true or false, got 1 ({}:2)"),
        ("model:\n  rope_theta: .nan", "model.rope_theta: expected a number, got nan ({}:2)"),
        ("name: 5", "name: expected text, got 5 ({}:1)"),
        ("lr: fast", "lr: expected a number or auto, got 'fast' ({}:1)"),
        ("kind: sgd", "kind: expected adamw or muon, got 'sgd' ({}:1)"),
        ("betas: 0.9", "betas: expected a list of (a number), got 0.9 ({}:1)"),
        ("betas: [0.9, x]", "betas: expected a list of (a number), got [0.9, 'x'] ({}:1)"),
        ("steps: x", "steps: expected a whole number or null, got 'x' ({}:1)"),
        ("\nmodel: 3", "{}:2: the section model must consist of `key: value` lines"),
        ("- a", "{}:1: the file must consist of `key: value` lines"),
        ("name: a\n\nname: b", "name is given twice ({}:1 and {}:3); keep one"),
        (
            "model:\n  hiden_size: 3",
            "unknown setting 'model.hiden_size' ({}:2); did you mean model.hidden_size?",
        ),
        ("hidden_size: 3", "unknown setting 'hidden_size' ({}:1); did you mean model.hidden_size?"),
        ("zzz: 3", "unknown setting 'zzz' ({}:1); --help lists all settings"),
        ("model:\n  dim: 3", "unknown setting 'model.dim' ({}:2); it is called model.hidden_size here"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "{}:1: not plain YAML: could not determine a constructor",
        ),
        ("a: [1,\nb: 2", "{}:2: not plain YAML: "),
        ("name: 2026-13-45", "{} is not plain YAML in UTF-8: "),
        ("betas: [[1]]", "betas: expected a list of (a number), got [[1]] ({}:1)"),
        ("betas: &x [*x]", "{}:1: not plain YAML: aliases (*name) are not read; write the value out"),
    ],
)
def test_yaml_mistakes(tmp_path, text, sentence):
    file = str(tmp_path / "recipe.yaml")
    assert mistake(yaml=text, tmp=tmp_path).startswith(sentence.replace("{}", file))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["--model.hidden_size", "wide"],
            "model.hidden_size: expected a whole number, got 'wide' (--model.hidden_size)",
        ),
        (["--model.hidden_size", "1", "2"], "model.hidden_size: expected a whole number, got '1 2'"),
        (["--model.hidden_size"], "--model.hidden_size needs a value: a whole number"),
        (["--name", "--steps", "1"], "--name needs a value: text"),
        (["--model.tie", "maybe"], "model.tie: expected true or false, got 'maybe'"),
        (["--name", "a", "--name=b"], "name is given twice (--name and --name); keep one"),
        (["oops"], "what is 'oops'? settings are written --key value"),
        (
            ["--model.hidden-size", "4"],
            "unknown setting 'model.hidden-size' (--model.hidden-size); did you mean",
        ),
        (
            ["--n-layers", "4"],
            "unknown setting 'n-layers' (--n-layers); it is called model.num_hidden_layers here",
        ),
        (
            ["--accumulation_steps", "4"],
            "unknown setting 'accumulation_steps' (--accumulation_steps); use batch.",
        ),
    ],
)
def test_flag_mistakes(argv, sentence):
    assert mistake(*argv).startswith(sentence)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.yaml: No such file or directory"):
        config.load(Recipe, files=[tmp_path / "none.yaml"])
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        config.load(Recipe, files=[tmp_path])
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="is not plain YAML in UTF-8"):
        config.load(Recipe, files=[tmp_path / "bytes.yaml"])


def test_required_setting():
    with pytest.raises(UserError, match="extra has no value: give it in a recipe file or with --extra"):
        config.load(Inherited)
    assert config.load(Inherited, ["--extra", "3"]).extra == 3


def test_stage_defaults_are_checked():
    assert "unknown setting 'stepps' (stage defaults)" in mistake(stepps=3)
    assert "expected a whole number or null, got 'x' (stage defaults)" in mistake(steps="x")


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]))
models = st.builds(
    Model, hidden_size=st.integers(), head_dim=st.none() | st.integers(), rope_theta=finite, tie=st.booleans()
)
recipes = st.builds(
    Recipe,
    name=text,
    model=models,
    big=models,
    adapter=st.none() | st.builds(Adapter, rank=st.integers(), targets=st.lists(text)),
    lr=finite | st.just("auto"),
    kind=st.sampled_from(["adamw", "muon"]),
    betas=st.lists(finite),
    steps=st.none() | st.integers(),
    note=st.none() | text,
)


@given(recipe=recipes)
@example(recipe=Recipe(name="a\x85b", note="中文\u2028 '1e-3'\r\n"))
def test_dump_loads_back(tmp_path_factory, recipe):
    file = tmp_path_factory.getbasetemp() / "dumped.yaml"
    file.write_text(config.dump(recipe), encoding="utf-8")
    assert config.load(Recipe, files=[file]) == recipe


@given(a=recipes, b=recipes)
def test_diff_names_what_differs(a, b):
    changes = config.diff(a, b)
    assert (changes == []) == (a == b)
    assert all(old != new for _, old, new in changes)


def test_diff_by_key():
    changed = load("--model.hidden_size", "128", "--name", "other")
    assert config.diff(load(), changed) == [
        ("name", "run", "other"),
        ("model.hidden_size", 64, 128),
        ("model.head_dim", 16, 32),
    ]


def test_describe_lists_every_setting_with_its_help():
    page = config.describe(Recipe, {"steps": 10})
    for key in config.settings(Recipe):
        assert f"  --{key}  " in page
    assert "  --model.hidden_size  a whole number (default 64)\n      Width of the residual stream.\n" in page
    assert "--big.hidden_size  a whole number (default 512)" in page
    assert "--steps  a whole number or null (default 10)\n      When to stop. In steps." in page
    assert "--extra  a whole number (required)" in config.describe(Inherited)
    assert "Width of the residual stream." in config.describe(Inherited)
    assert "\n\n  adapter: Small matrices\n  --adapter.rank  a whole number (default 8)" in page
    assert page.endswith(
        "example:\n  --model.hidden_size 64\nor, in a recipe file,\n    model:\n      hidden_size: 64"
    )


def test_aliases_name_settings_that_exist():
    known = config.settings(TrainingRecipe)
    assert not set(config.ALIASES) & set(known)
    assert {answer for answer in config.ALIASES.values() if " " not in answer} <= set(known)
    with pytest.raises(UserError, match=r"it is called model\.num_hidden_layers here"):
        config.load(TrainingRecipe, ["--n_layers", "4"])


def test_help_flag_prints_and_stops(capsys):
    with pytest.raises(SystemExit) as stop:
        load("--steps", "3", "--help")
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == config.describe(Recipe).strip()


@pytest.mark.parametrize("owner", [TrainingRecipe, SamplingParams])
def test_every_number_declares_its_range(owner):
    for key, setting in config.settings(owner).items():
        if {int, float} & kinds(setting.hint):
            assert range_of(setting.hint) is not None, key


def test_help_names_the_range():
    assert "--optimizer.beta1  a number from 0 to below 1 (default 0.9)" in config.describe(TrainingRecipe)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("budget." + unit, "inf") for unit in ("epochs", "tokens", "minutes")),
        ("seed", "-1"),
        ("seed", str(2**64)),
        ("evaluation.samples", "-1"),
        ("optimizer.beta1", "1"),
        ("optimizer.weight_decay", "1e300"),
        ("model.num_hidden_layers", "100000"),
        ("model.hidden_size", "1e9"),
        ("batch.tokens_per_step", "1e15"),
        ("batch.seq_len", "9" * 400),
        ("checkpoint.every", "0"),
    ],
)
def test_a_number_out_of_range_is_refused_by_flag_file_and_constructor(flag, value, tmp_path):
    sentence = f"{flag}: expected a (whole )?number (from|above) .*got "
    with pytest.raises(UserError, match=sentence):
        config.load(TrainingRecipe, [f"--{flag}", value])
    section, _, name = flag.rpartition(".")
    (tmp_path / "r.yaml").write_text(f"{section}:\n  {name}: {value}" if section else f"{name}: {value}")
    with pytest.raises(UserError, match=sentence):
        config.load(TrainingRecipe, files=[tmp_path / "r.yaml"])
    with pytest.raises(UserError, match=rf"{flag} must be a (whole )?number (from|above)"):
        constructed(section, name, float(value))


def constructed(section: str, name: str, value: float) -> TrainingRecipe:
    owner = getattr(TrainingRecipe(), section) if section else TrainingRecipe()
    changed = dataclasses.replace(owner, **{name: value})
    return TrainingRecipe(**{section: changed}) if section else changed


@given(low=finite, high=finite, above=st.booleans(), below=st.booleans(), value=st.floats())
def test_a_range_holds_its_numbers_only(low, high, above, below, value):
    allowed = Range(low, high, above, below)
    inside = (low < value if above else low <= value) and (value < high if below else value <= high)
    hint = Annotated[float | None, allowed]
    assert convert(None, hint) is None
    if inside and math.isfinite(value):
        assert convert(repr(value), hint) == value
    else:
        with pytest.raises(ValueError, match=r"^$"):
            convert(value, hint)


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x", "a: &x [*x]", "a: " + "[" * 20_000])
def test_yaml_that_unfolds_or_nests_without_end_is_refused(text, tmp_path):
    assert "not plain YAML" in mistake(yaml=text.replace("a:", "note:"), tmp=tmp_path)


def test_a_flag_without_text_is_refused():
    for argv in (["--preset", ""], ["--preset="]):
        with pytest.raises(UserError, match="--preset needs a value"):
            config.load(TrainingRecipe, argv)
