"""Chat templates as programs: what other programs get of them."""

import jinja2
import pytest

from minimind.tokenizer.template import compile_template, default_template, without_generation_blocks

CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "r"}]


@pytest.mark.parametrize(
    "source",
    [
        default_template(),
        "{% for m in messages %}{% generation %}\n  {{ m.content }}\n{% endgeneration %}\n{% endfor %}",
        "{%- generation -%}\n a {%- endgeneration %}\n  {%+ generation +%} b{% endgeneration -%}\n c",
    ],
)
def test_a_template_without_the_generation_tag_is_plain_jinja_and_renders_the_same(source: str):
    plain = without_generation_blocks(source)
    assert "generation %}" not in plain
    rendered = compile_template(source).render(messages=CHAT)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    assert environment.from_string(plain).render(messages=CHAT) == rendered.replace("\ufdd1", "").replace(
        "\ufdd2", ""
    )
