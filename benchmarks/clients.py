"""Real clients on one server: does each get what the model says, whole, streamed, with tools and as JSON?

    pip install litellm langchain-openai 'pydantic-ai-slim[openai]' instructor llm openai-agents
    python -m benchmarks.clients runs/quickstart/chat --out docs/results/clients.md

A `minimind serve` process on loopback. What a client gets greedily must be what the model answers in this process;
a forced call must name the tool, and JSON must follow its schema. A client that is not installed is left out. For
lm-evaluation-harness see `benchmarks.lm_eval_server`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from benchmarks.results import command, machine, table, write_page
from pydantic import BaseModel

from minimind import Model
from minimind.errors import UserError

QUESTION = "What is 7 + 5?"
SCHEMA_QUESTION = "What color is the sea?"


class Seen(BaseModel):
    """A schema whose answers are short, whatever a small model writes."""

    color: Literal["red", "green", "blue"]
    bright: bool


def paint(color: Literal["red", "green", "blue"]) -> str:
    """Paint it."""
    return f"it is {color} now"


class Server:
    """What a check needs: the address, the model's name, and what it answers itself."""

    def __init__(self, directory: str, url: str, name: str) -> None:
        self.url, self.name, self.directory = url, name, directory
        model = Model(directory, device="cpu")
        self.expected = model.chat([{"role": "user", "content": QUESTION}], temperature=0)["content"]
        self.context = model.engine.context

    def same(self, text: str | None) -> None:
        assert text == self.expected, f"{text!r} is not {self.expected!r}"


def openai_client(server: Server) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=server.url, api_key="none")
    asked: dict[str, Any] = {"model": server.name, "temperature": 0}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    server.same(client.chat.completions.create(**asked, messages=messages).choices[0].message.content)
    chunks = client.chat.completions.create(**asked, messages=messages, stream=True)
    server.same("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    server.same(client.responses.create(**asked, input=QUESTION).output_text)
    with client.responses.stream(**asked, input=QUESTION) as events:
        server.same(events.get_final_response().output_text)
    parsed = client.responses.parse(**asked, input=SCHEMA_QUESTION, text_format=Seen)
    assert isinstance(parsed.output_parsed, Seen)


def litellm_client(server: Server) -> None:
    import litellm

    asked: dict[str, Any] = {
        "model": f"openai/{server.name}",
        "api_base": server.url,
        "api_key": "none",
        "temperature": 0,
    }
    messages = [{"role": "user", "content": QUESTION}]
    server.same(litellm.completion(**asked, messages=messages).choices[0].message.content)
    chunks = litellm.completion(**asked, messages=messages, stream=True)
    server.same("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    tool = {"type": "function", "function": {"name": "paint", "parameters": Seen.model_json_schema()}}
    called = litellm.completion(**asked, messages=messages, tools=[tool], tool_choice="required", max_tokens=64)
    assert called.choices[0].message.tool_calls[0].function.name == "paint"
    long = [{"role": "user", "content": "word " * 2 * server.context}]
    try:
        litellm.completion(**asked, messages=long)
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("a context that is too long is not recognized")


def langchain_client(server: Server) -> None:
    from langchain_openai import ChatOpenAI

    for newer in (False, True):
        chat = ChatOpenAI(
            model=server.name, base_url=server.url, api_key="none", temperature=0, use_responses_api=newer
        )
        server.same(chat.invoke(QUESTION).text)
        server.same("".join(chunk.text for chunk in chat.stream(QUESTION)))
        calls = chat.bind_tools([paint], tool_choice="required").invoke(QUESTION).tool_calls
        assert calls[0]["name"] == "paint"
        assert isinstance(chat.with_structured_output(Seen).invoke(SCHEMA_QUESTION), Seen)


def pydantic_ai_client(server: Server) -> None:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=server.url, api_key="none")
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        model = kind(server.name, provider=provider)
        server.same(Agent(model, model_settings={"temperature": 0}).run_sync(QUESTION).output)
        structured = Agent(model, output_type=NativeOutput(Seen), model_settings={"temperature": 0})
        assert isinstance(structured.run_sync(SCHEMA_QUESTION).output, Seen)


def instructor_client(server: Server) -> None:
    import instructor
    from openai import OpenAI

    for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
        client = instructor.from_openai(OpenAI(base_url=server.url, api_key="none"), mode=mode)
        asked = [{"role": "user", "content": SCHEMA_QUESTION}]
        found = client.chat.completions.create(model=server.name, response_model=Seen, messages=asked)
        assert isinstance(found, Seen)


def llm_client(server: Server) -> None:
    with tempfile.TemporaryDirectory() as home:
        models = (
            f"- model_id: served\n  model_name: {server.name}\n  api_base: {server.url}\n  api_key_name: none\n"
        )
        (Path(home) / "extra-openai-models.yaml").write_text(models, encoding="utf-8")
        said = subprocess.run(
            [sys.executable, "-m", "llm", "-m", "served", "--key", "none", "-o", "temperature", "0", QUESTION],
            env={**os.environ, "LLM_USER_PATH": home},
            capture_output=True,
            text=True,
            check=True,
        )
    server.same(said.stdout.removesuffix("\n"))


def agents_client(server: Server) -> None:
    from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    model = OpenAIResponsesModel(server.name, AsyncOpenAI(base_url=server.url, api_key="none"))
    plain = Agent(name="plain", model=model, model_settings=ModelSettings(temperature=0))
    used = Agent(
        name="tools",
        model=model,
        tools=[function_tool(paint)],
        tool_use_behavior="stop_on_first_tool",
        model_settings=ModelSettings(temperature=0, tool_choice="required"),
    )

    async def ask() -> tuple[str, str]:
        answer, painted = await Runner.run(plain, QUESTION), await Runner.run(used, SCHEMA_QUESTION)
        return answer.final_output, painted.final_output

    answer, painted = asyncio.run(ask())
    server.same(answer)
    assert painted.startswith("it is ")


CLIENTS: dict[str, Callable[[Server], None]] = {
    "openai": openai_client,
    "litellm": litellm_client,
    "langchain-openai": langchain_client,
    "pydantic-ai-slim": pydantic_ai_client,
    "instructor": instructor_client,
    "llm": llm_client,
    "openai-agents": agents_client,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a chat model's directory")
    parser.add_argument("--out", type=Path, help="a Markdown page (default: printed)")
    options = parser.parse_args()
    serve = [sys.executable, "-m", "minimind", "serve", options.model, "--device", "cpu", "--port", "0"]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if not (found := re.match(r"serving (\S+) at (http://\S+) ", line)):
                raise UserError(f"no server: {line}")
            server = Server(options.model, found[2], found[1])
            rows = [row for client, check in CLIENTS.items() if (row := tried(client, check, server))]
        finally:
            process.terminate()
    parts = [machine(torch.device("cpu"), "transformers"), f"    {command()}"]
    write_page(options.out, "Real clients on the server", *parts, table(["client", "version", "result"], rows))


def tried(client: str, check: Callable[[Server], None], server: Server) -> list[str] | None:
    try:
        version = metadata.version(client)
    except metadata.PackageNotFoundError:
        return None
    try:
        check(server)
        result = "right"
    except Exception as error:
        result = f"**{type(error).__name__}**: {str(error)[:300]}"
    print(client, version, result, file=sys.stderr)
    return [client, version, result]


if __name__ == "__main__":
    main()
