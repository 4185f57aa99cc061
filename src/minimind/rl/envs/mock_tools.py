"""What tools answer in training: without clock, network or luck, so that a question is answered the same each time.

By its name a tool is one of the embedded world, one of the public MiniMind's agent data, or a built-in one. Any
other is a stand-in that says back what it was called with.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from minimind.rl.envs.public_tools import PUBLIC
from minimind.rl.types import Prompt
from minimind.tools.builtin import builtin_tools
from minimind.tools.tool import Tool, given
from minimind.world.skills.chains import BY_NAME, respond
from minimind.world.skills.tools import MockTool

Run = Callable[[dict[str, Any]], Any]


def mock_tools(prompt: Prompt) -> list[Tool]:
    """The prompt's tools. What those of the world and those of chance answer hangs on the user's last question."""
    asked = [message["content"] for message in prompt.messages if message["role"] == "user"]
    question = asked[-1] if asked else ""
    lang = "zh" if re.search("[\u4e00-\u9fff]", question) else "en"
    known: dict[str, Run] = {name: tool.run for name, tool in builtin_tools(zlib.crc32(question.encode())).items()}
    world = {name: partial(_of_the_world, tool, question, lang) for name, tool in BY_NAME.items()}
    known = {**known, **world, **PUBLIC, "calculate": known["calculate"]}
    functions = [schema.get("function", schema) for schema in prompt.tools]
    return [
        Tool(
            function["name"],
            function.get("description") or "",
            function.get("parameters") or {"type": "object"},
            known.get(function["name"], _stand_in),
        )
        for function in functions
    ]


def _of_the_world(tool: MockTool, question: str, lang: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return respond(tool, question, lang, given(arguments, tool.argument[0]))


def _stand_in(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, **arguments}
