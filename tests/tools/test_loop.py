"""The tool loop: with an assistant that follows a script, and with models."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.random_models import random_model

from minimind import Model
from minimind.cli import main
from minimind.commands import chat
from minimind.errors import UserError
from minimind.infer.conversation import Conversation, LocalBackend, assistant_message
from minimind.infer.events import End, Text, Token, ToolCall
from minimind.infer.sampler import SamplingParams
from minimind.model import save_model
from minimind.tokenizer import Tokenizer
from minimind.tools import Limits, Tool, Toolbox, ToolResult, run_turn
from minimind.tools.builtin import builtin_tools

QUESTION = {"role": "user", "content": "What is 6 * 7?"}


def calls(*expressions: str, content: str = "") -> dict[str, Any]:
    made = [{"name": "calculate", "arguments": {"expression": text}} for text in expressions]
    return {"role": "assistant", "content": content, "tool_calls": made}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def tools() -> Toolbox:
    return Toolbox([builtin_tools()["calculate"]], Limits(rounds=2))


class Script:
    """An assistant that says one message after the other, and remembers what it was asked."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.asked: list[list[dict[str, Any]]] = []
        self.offered: list[list[dict[str, Any]]] = []

    def __call__(self, messages: list[dict[str, Any]], schemas: list[dict[str, Any]]) -> dict[str, Any]:
        self.asked.append(list(messages))
        self.offered.append(schemas)
        return self.messages.pop(0)


def turn(script: Script, tools: Toolbox) -> tuple[list[dict[str, Any]], list[Any]]:
    messages = [dict(QUESTION)]
    yielded = list(run_turn(script, messages, tools))
    return messages, yielded


def test_an_answer_without_calls_ends_the_turn(tools: Toolbox) -> None:
    script = Script(says("42"))
    assert turn(script, tools) == ([QUESTION, says("42")], [])
    assert script.offered == [tools.schemas]


def test_calls_are_answered_in_order_and_it_is_asked_again(tools: Toolbox) -> None:
    script = Script(calls("6 * 7", "1 / 0", content="Let me see."), calls("42 + 1"), says("43"))
    messages, results = turn(script, tools)
    replies = ['{"result": 42}', '{"error": "division by zero"}', '{"result": 43}']
    assert messages == [
        QUESTION,
        calls("6 * 7", "1 / 0", content="Let me see."),
        {"role": "tool", "content": replies[0]},
        {"role": "tool", "content": replies[1]},
        calls("42 + 1"),
        {"role": "tool", "content": replies[2]},
        says("43"),
    ]
    expressions = ("6 * 7", "1 / 0", "42 + 1")
    assert results == [
        ToolResult("calculate", {"expression": one}, reply) for one, reply in zip(expressions, replies)
    ]
    assert script.asked == [messages[:1], messages[:4], messages[:6]]


def test_rounds_are_limited_and_the_last_calls_are_answered_too(tools: Toolbox) -> None:
    script = Script(*(calls(str(n)) for n in range(9)))
    messages, results = turn(script, tools)
    assert len(script.asked) == 3
    assert [result.content for result in results] == [
        '{"result": 0}',
        '{"result": 1}',
        '{"error": "not run: 2 rounds of calls are the limit of one turn"}',
    ]
    assert messages[-1]["role"] == "tool"


def test_openai_calls_keep_their_ids_and_their_arguments_may_be_text(tools: Toolbox) -> None:
    def call(id: str, arguments: str) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": "calculate", "arguments": arguments}}

    made = [call("a", '{"expression": "6 * 7"}'), call("b", '{"expression": '), {"id": "c", "function": {}}]
    messages, _ = turn(Script({"role": "assistant", "content": None, "tool_calls": made}, says("42")), tools)
    assert messages[2] == {"role": "tool", "content": '{"result": 42}', "tool_call_id": "a"}
    assert messages[3]["tool_call_id"] == "b"
    assert "the arguments are not JSON" in messages[3]["content"]
    assert messages[4]["tool_call_id"] == "c"
    assert "there is no tool ''" in messages[4]["content"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('<tool_call>\n{"name": "calculate", "arguments": {"expression": "6 * 7}\n</tool_call>', "it is not JSON"),
        ('Well.\n<tool_call>\n{"name": "calculate", "arguments": {', "it is not JSON"),
        ('<tool_call>{"name": "calculate"}</tool_call>', 'it must have "name", a text, and "arguments", an object'),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "it is not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_goes_back(tools: Toolbox, content: str, why: str) -> None:
    messages, results = turn(Script(says(content), says("Sorry.")), tools)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(messages[2]["content"])["error"].startswith(f"this tool call cannot be read: {why}")
    assert results[0].content == messages[2]["content"]


def test_without_tools_calls_are_left_alone() -> None:
    messages, results = turn(Script(calls("6 * 7")), Toolbox())
    assert (messages, results) == ([QUESTION, calls("6 * 7")], [])


def test_a_broken_tool_does_not_end_the_turn() -> None:
    def run(arguments: dict[str, Any]) -> Any:
        raise RecursionError("too deep")

    messages, _ = turn(Script(calls("1"), says("Sorry.")), Toolbox([Tool("calculate", "", {}, run)]))
    assert messages[2]["content"] == '{"error": "RecursionError: too deep"}'


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A model that says random things, with room in its context for tools."""
    directory = tmp_path_factory.mktemp("talker") / "model"
    save_model(random_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=2048), directory, tokenizer)
    return directory


def test_many_turns_in_one_batch(talker: Path) -> None:
    """What `ask` yields comes out and what is sent comes back: turns side by side are what they are alone."""
    model = Model(talker, device="cpu")
    params = SamplingParams(max_tokens=12, seed=3)
    tools = Toolbox([builtin_tools()["roll_dice"]])

    def ask(messages: list[dict[str, Any]], schemas: list[dict[str, Any]]) -> Generator[Any, Any, dict[str, Any]]:
        ids, _ = model.tokenizer.encode_chat(messages, schemas, add_generation_prompt=True)
        completion = yield ids
        return assistant_message(completion.ids, model.tokenizer, False)

    talks = [[{"role": "user", "content": text}] for text in ("the cat", "a dog", "blue")]
    turns = [run_turn(ask, talk, tools) for talk in talks]
    waiting = {number: next(turn) for number, turn in enumerate(turns)}
    while waiting:
        completions = model.engine.generate(list(waiting.values()), params)
        for number, completion in zip(list(waiting), completions):
            try:
                waiting[number] = turns[number].send(completion)
            except StopIteration:
                del waiting[number]
    for talk in talks:
        assert talk[1] == model.chat(talk[:1], tools=tools.schemas, max_tokens=12, seed=3)


class Speaker:
    """An engine that says one text after the other, and remembers the prompts."""

    context = 2000

    def __init__(self, tokenizer: Tokenizer, *texts: str) -> None:
        self.tokenizer = tokenizer
        self.texts = list(texts)
        self.prompts: list[str] = []

    def stream(self, prompt: Sequence[int], params: SamplingParams, adapter: None) -> Iterator[Token | End]:
        self.prompts.append(self.tokenizer.decode(prompt, skip_special=False))
        yield from map(Token, self.tokenizer.backend.encode(self.texts.pop(0), add_special_tokens=False).ids)
        yield End("stop")


CALL = '<tool_call>\n{"name": "calculate", "arguments": {"expression": "6 * 7"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


def test_a_conversation_with_tools(tokenizer: Tokenizer, tools: Toolbox) -> None:
    engine = Speaker(tokenizer, f"<think>\nhm\n</think>\n\nSee:\n{CALL}", "It is 42.", "Bye.")
    conversation = Conversation(LocalBackend(engine, tokenizer), tools=tools)
    events = list(conversation.say("What is 6 * 7?"))
    called, result = ToolCall("calculate", {"expression": "6 * 7"}), '{"result": 42}'
    at = events.index(called)
    assert events[at:][:3] == [called, End("stop"), ToolResult("calculate", {"expression": "6 * 7"}, result)]
    assert "".join(event.text for event in events[at + 3 : -1]) == "It is 42."
    assert events[-1] == End("stop")
    first = calls("6 * 7", content="See:") | {"reasoning_content": "hm"}
    result = {"role": "tool", "content": '{"result": 42}'}
    assert conversation.messages == [QUESTION, first, result, says("It is 42.")]
    list(conversation.say("Thanks"))
    assert all("# Tools" in prompt for prompt in engine.prompts)
    assert '<tool_response>\n{"result": 42}\n</tool_response>' in engine.prompts[1]
    assert CALL in engine.prompts[2]


def test_without_tools_a_call_is_shown_as_text(tokenizer: Tokenizer) -> None:
    engine = Speaker(tokenizer, CALL)
    conversation = Conversation(LocalBackend(engine, tokenizer))
    assert "".join(one.text for one in conversation.say("What is 6 * 7?") if isinstance(one, Text)) == CALL
    assert len(engine.prompts) == 1
    assert "# Tools" not in engine.prompts[0]


def test_a_turn_that_is_broken_off_is_kept_as_far_as_it_came(tokenizer: Tokenizer, tools: Toolbox) -> None:
    engine = Speaker(tokenizer, CALL, "It is 42.")
    conversation = Conversation(LocalBackend(engine, tokenizer), tools=tools)
    stream = conversation.say("What is 6 * 7?")
    said = ""
    for part in stream:
        said += getattr(part, "text", "")
        if "I" in said:
            break
    stream.close()
    assert conversation.messages[:3] == [QUESTION, calls("6 * 7"), {"role": "tool", "content": '{"result": 42}'}]
    assert "It is 42.".startswith(conversation.messages[3]["content"])
    assert len(conversation.messages) == 4


def test_a_result_that_fills_the_context_takes_the_turn_back(tokenizer: Tokenizer) -> None:
    tools = Toolbox([Tool("calculate", "", {}, lambda arguments: "x" * 3000)])
    conversation = Conversation(LocalBackend(Speaker(tokenizer, "Hello.", CALL), tokenizer), tools=tools)
    list(conversation.say("Hi"))
    before = list(conversation.messages)
    with pytest.raises(UserError, match="the message is too long: with the system message and the tools it takes"):
        list(conversation.say("What is 6 * 7?"))
    assert conversation.messages == before


def test_the_terminal_shows_calls_and_results(
    tokenizer: Tokenizer, tools: Toolbox, capsys: pytest.CaptureFixture[str]
) -> None:
    ramble = Tool("ramble", "", {}, lambda arguments: "x" * 900)
    tools = Toolbox([*tools.tools.values(), ramble])
    second = '<tool_call>\n{"name": "ramble", "arguments": {"a": "é", "b": [1]}}\n</tool_call>'
    engine = Speaker(tokenizer, f"<think>\nhm\n</think>\n\nSee:\n{CALL}\n{second}", "<tool_call>\n{", "It is 42.")
    chat.answer(Conversation(LocalBackend(engine, tokenizer), tools=tools), "What is 6 * 7?")
    assert capsys.readouterr().out.splitlines() == [
        "hm",
        "See:",
        '→ calculate(expression="6 * 7")',
        '→ ramble(a="é", b=[1])',
        '← {"result": 42}',
        "← " + "x" * 300 + "… (cut off after 300 characters)",
        "<tool_call>",
        "{",
        '← {"error": "this tool call cannot be read: it is not JSON (Expecting property name enclosed in double '
        'quotes: line 2 column 2 (char 2))"}',
        "It is 42.",
    ]


def chat_with(talker: Path, *arguments: str) -> list[str]:
    return ["chat", str(talker), "--device", "cpu", "--max-tokens", "12", "--seed", "2", *arguments]


def test_chat_offers_the_named_tools(talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text('def hello(name: str) -> str:\n    "Greet"\n    return name\n')
    assert main(chat_with(talker, "--prompt", "the cat", "--tools", "calculate", str(tmp_path / "mine.py"))) == 0
    offered = [builtin_tools()["calculate"].schema]
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    greet = {"name": "hello", "description": "Greet", "parameters": parameters}
    offered.append({"type": "function", "function": greet})
    model = Model(talker, device="cpu")
    wanted = model.chat([{"role": "user", "content": "the cat"}], tools=offered, max_tokens=12, seed=2)
    assert capsys.readouterr().out == wanted["content"] + "\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("dance", "error: there is no tool 'dance'; built in are calculate"),
        ("nowhere.py", "error: nowhere.py does not exist"),
        ("mcp:no-such-command", "error: the MCP server 'no-such-command' gives no tools"),
    ],
)
def test_a_wrong_source_is_one_sentence(
    talker: Path, capsys: pytest.CaptureFixture[str], source: str, sentence: str
) -> None:
    assert main(chat_with(talker, "--prompt", "the cat", "--tools", source)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1
