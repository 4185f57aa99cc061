"""Chat templates as programs: what other programs get of them."""

import time

import jinja2
import pytest

from minimind.errors import UserError
from minimind.tokenizer import ChatError
from minimind.tokenizer.allowance import Allowance
from minimind.tokenizer.chat import ChatTemplate
from minimind.tokenizer.template import compile_template, default_template, render, without_generation_blocks

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
    rendered = render(compile_template(source), Allowance(0), messages=CHAT)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    assert environment.from_string(plain).render(messages=CHAT) == rendered.replace("\ufdd1", "").replace(
        "\ufdd2", ""
    )


DOUBLING = "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = NEXT %}{% endfor %}{{ ns.a }}"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too much work"),
        ("{% for i in range(99999) %}{% for j in range(99999) if 0 %}{% endfor %}{% endfor %}", "too much work"),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}", "work"),
        ("{% set x = range(99999) | list %}{% for i in x %}{{ '' if -1 in x }}{% endfor %}", "too much work"),
        ("{% set x = range(99999) | list %}{% for i in x %}{% set y = x[::-1] %}{% endfor %}", "too much work"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion"),
        (
            "{% for i in range(99999) %}{% for j in range(99) %}TEXT{% endfor %}{% endfor %}".replace(
                "TEXT", "text " * 20
            ),
            "longer",
        ),
        ("{{ 'x' * 10 ** 10 }}", "longer than"),
        (DOUBLING.replace("NEXT", "[ns.a, ns.a]"), "longer than"),
        (DOUBLING.replace("NEXT", "(ns.a | string) ~ ns.a"), "longer than"),
        (DOUBLING.replace("NEXT", "namespace(a=ns.a, b=ns.a)"), "longer than"),
        (DOUBLING.replace("NEXT", "{'a': ns.a, 'b': ns.a}.items()"), "longer than"),
        (DOUBLING.replace("NEXT", "cycler(ns.a, ns.a).items"), "longer than"),
        (DOUBLING.replace("99", "9999").replace("NEXT", "(ns.a,)"), "nested more than 200 deep"),
        ("{{ 'x'.center(10 ** 10) }}", "longer than"),
        ("{{ 'x' | center(10 ** 10) }}", "longer than"),
        ("{{ ('x' * 10 ** 5).replace('', 'y' * 10 ** 5) }}", "longer than"),
        ("{{ range(99999) | join('y' * 10 ** 5) }}", "longer than"),
        ("{{ [1] | slice(10 ** 9) | list }}", "longer than"),
        ("{{ messages | tojson(indent=10 ** 9) }}", "longer than"),
        ("{{ range(99999) | list | tojson(indent=10 ** 5) }}", "too much work"),
        ("{{ '%9999999999d' % 1 }}", "a width in a format"),
        ("{{ '%*d' | format(99999, 1) }}", "a width in a format"),
        ("{{ '{:>9999999999}'.format(1) }}", "a width in a format"),
        ("{{ '{:{}}'.format(1, 9999999999) }}", "a width in a format"),
        ("{{ strftime_now('%999999d') }}", "a width in a format"),
        ("{{ 7 ** 77777 }}", "thousands of digits"),
        ("{{ 2 ** (10 ** 9) }}", "thousands of digits"),
        ("{{ 1.5 | round(10 ** 9) }}", "longer than"),
        ("{{ (1).to_bytes(10 ** 10, 'big') }}", "out of bounds"),
        ("{{ [[1]] * 9999 | sum(start=[]) }}", "sum adds numbers only"),
        ("{{ messages[99].content }}", "no element 99"),
        ("{{ messages[0].nope.deeper }}", "no attribute 'nope'"),
        ("{{ 1 // 0 }}", "division"),
        ("{{ '%(a)s' % {} }}", "KeyError 'a'"),
        ("{{ 'a' + 1 }}", "concatenate"),
        ("{{ raise_exception('no  hello') }}", "no hello$"),
        ("{{ raise_exception(messages[0].content * 999) }}", "…$"),
        ("{{ ''.__class__ }}", "__class__ of a str"),
        ("{{ messages.append(1) }}", "append of a list"),
        ("{% include 'other' %}", "no loader"),
    ],
)
def test_a_template_that_goes_wrong_is_one_short_sentence_with_its_name(source: str, why: str):
    start = time.thread_time()
    with pytest.raises(ChatError, match=why) as raised:
        ChatTemplate(source, [], "the chat template in a/b.json").render(CHAT, None)
    assert str(raised.value).startswith("the chat template in a/b.json cannot render this conversation: ")
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, UserError)
    assert time.thread_time() - start < 10  # a second or two


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
        "{% for i in [1] %}" * 50 + "{% endfor %}" * 50,
        "{% if %}",
        "{{ 1 | nope }}",
        "x" * 2**20,
    ],
    ids=["deep", "blocks", "syntax", "filter", "long"],
)
def test_a_source_that_cannot_be_compiled(source: str):
    with pytest.raises(jinja2.TemplateError):
        compile_template(source)


def test_the_bound_grows_with_the_conversation():
    text = "word " * 2**20
    source = "{% for m in messages %}{{ m.content.strip() + '!' }}{% endfor %}"
    assert ChatTemplate(source, []).render([{"role": "user", "content": text}], None).text == text.strip() + "!"


def test_special_tokens_are_known_by_their_names():
    template = ChatTemplate(
        "{{ bos_token }}{{ messages[0].content }}", ["<s>"], special_tokens={"bos_token": "<s>"}
    )
    rendered = template.render([{"role": "user", "content": "<s>"}], None)
    assert (rendered.text, rendered.controls) == ("<s><s>", [(0, 3)])


def test_content_as_a_list_of_parts_is_their_text():
    parts = [{"type": "text", "text": "a"}, {"type": "image", "url": "x"}, {"type": "text", "text": "b"}]
    roles = ("system", "user", "assistant", "tool")

    def rendered(content: object) -> str:
        messages = [{"role": role, "content": content} for role in roles]
        return render(compile_template(default_template()), Allowance(0), messages=messages)

    assert rendered(parts) == rendered("ab") != rendered(None) == rendered("")
