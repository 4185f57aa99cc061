"""Chat templates of published models, as TRL ships them, are rendered as transformers renders them."""

from importlib.resources import files

import pytest

from minimind.tokenizer.chat import ChatTemplate

pytest.importorskip("trl")
transformers = pytest.importorskip("transformers.utils.chat_template_utils")

CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
CONVERSATIONS = [
    [USER],
    [{"role": "system", "content": "be brief"}, USER, ANSWER, USER],
    [USER, {"role": "assistant", "content": "a", "reasoning_content": "r"}, USER],
    [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "7", "name": "weather", "tool_call_id": "abcdefghi"},
        ANSWER,
    ],
]
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "asks", "parameters": CITY}}]


def test_published_templates():
    sources = [
        path.read_text() for path in (files("trl") / "chat_templates").iterdir() if path.name[-6:] == ".jinja"
    ]
    rendered = 0
    for source in sources:
        ours = ChatTemplate(source, [])
        for messages in CONVERSATIONS:
            for tools in (None, TOOLS):
                try:
                    expected, _ = transformers.render_jinja_template(
                        [messages], tools, chat_template=source, add_generation_prompt=True
                    )
                except Exception:  # some take no system message, or want other fields
                    continue
                text = ours.render(messages, tools, turns=False, add_generation_prompt=True).text
                assert text == expected[0]
                rendered += 1
    assert len(sources) > 10
    assert rendered > 6 * len(sources)
