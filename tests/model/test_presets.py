"""The named shapes have the sizes that they are known for, and the pages say which."""

from pathlib import Path

import pytest

from minimind.errors import UserError
from minimind.model import ModelConfig
from minimind.model.count import count_parameters
from minimind.plan.memory import memory
from minimind.presets import PRESETS, dense, get, preset_fields

PAGES = [Path(__file__).parents[2] / "docs" / language / "model.md" for language in ("en", "zh")]
LADDER = {
    "tiny": 1,
    "50m": 50,
    "100m": 100,
    "200m": 200,
    "350m": 350,
    "500m": 500,
    "1b": 1000,
    "2b": 2000,
    "3b": 3000,
}


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("minimind-v1-small", 26_878_464, 26_878_464),
        ("minimind-v1", 108_749_568, 108_749_568),
        # 8 blocks with 2 of 4 experts less, each 3 matrices of 512 x 1408
        ("minimind-v1-moe", 96_100_864, 96_100_864 - 8 * 2 * 3 * 512 * 1408),
        ("minimind2-small", 25_829_888, 25_829_888),
        ("minimind2", 104_030_976, 104_030_976),
        ("minimind2-moe", 145_029_760, 145_029_760 - 8 * 2 * 3 * 640 * 1728),
        ("minimind-3", 63_912_192, 63_912_192),
        ("minimind-3-moe", 198_416_640, 198_416_640 - 8 * 3 * 3 * 768 * 2432),
    ],
)
def test_published_shapes_are_exact(name: str, total: int, active: int) -> None:
    counts = count_parameters(get(name))
    assert (counts["total"], counts["active"]) == (total, active)


@pytest.mark.parametrize(("name", "millions"), LADDER.items())
def test_the_ladder_s_shapes_are_as_large_as_they_are_called(name: str, millions: float) -> None:
    config = get(name)
    assert count_parameters(config)["total"] / 1e6 == pytest.approx(millions, rel=0.02)
    assert config.head_dim in (64, 128)
    assert config.num_attention_heads * config.head_dim == config.hidden_size or name == "tiny"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no preset is called 'minimind2_smal'; did you mean minimind2-small\?"):
        get("minimind2_smal")


def test_fields_of_a_preset_leave_the_vocabulary_to_the_tokenizer() -> None:
    for name in ("quickstart", "minimind2-moe"):
        assert ModelConfig(vocab_size=300, **preset_fields(name)) == get(name, vocab_size=300)


# What the pages call the advice in circulation: (width, layers, heads) of the smallest and the largest of a row.
ADVICE = [
    ((512, 6, 8), (768, 12, 12)),
    ((1024, 12, 16), (1536, 24, 24)),
    ((2048, 24, 32), (2560, 32, 40)),
    ((3072, 32, 48),),
]


@pytest.mark.parametrize("page", PAGES, ids=["en", "zh"])
def test_the_tables_on_the_pages_are_right(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, config in PRESETS.items():
        counts, heads = count_parameters(config), f"{config.num_attention_heads} / {config.num_key_value_heads}"
        cells = [f"`{name}`", f"{counts['total']:,}"]
        cells += [f"{counts['active']:,}"] if name.startswith("minimind") else []
        cells += [f"{config.num_hidden_layers} × {config.hidden_size}", f"{heads} × {config.head_dim}"]
        weights = memory(config)["weights"]["fp32"]
        cells += [f"{config.intermediate_size:,}", f"{weights / 1e6:,.0f} MB"]
        assert f"| {' | '.join(cells)} |" in text
    for row in ADVICE:
        counts = [count_parameters(dense(D, L, H, H // 4))["total"] for D, L, H in row]
        assert f"| {' – '.join(f'{count / 1e6:,.0f}M' for count in counts)} |" in text
