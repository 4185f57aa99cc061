"""Tool use over several turns: a model calls tools and reads their results, until it answers without a call.

What the whole episode earns is only known at its end (`correct`, of the last answer). Two smaller parts are given
on the way: without them a model that never got to the end would learn nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from minimind.infer.events import StopReason
from minimind.rl.envs.mock_tools import mock_tools
from minimind.rl.types import Prompt, StepResult
from minimind.tokenizer.messages import Message
from minimind.tools import Limits, Toolbox
from minimind.tools.loop import answer as answer_call
from minimind.tools.loop import calls_of
from minimind.util.json_files import loads

LIMITS = Limits(rounds=5, characters=500)
PARTS = ("calls", "unreadable")


@dataclass
class ToolUse:
    """Answers the model's calls, as many rounds as `tools.limits` says.

    wanted  name and result of the calls that lead to the answer

    Parts: `calls`, the share of the wanted calls that were made, in any order, each counted once; and `unreadable`,
    the number of calls that were none, and were answered with an error. Right is a call with the right result:
    `7 * 63` for `63 * 7`, too.
    """

    prompt: Prompt
    tools: Toolbox
    wanted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.share = 1 / max(1, self.wanted.total())
        self.rounds_left = self.tools.limits.rounds

    def step(self, answer: Message, text: str, stop_reason: StopReason) -> StepResult:
        calls = calls_of(answer) if stop_reason == "stop" else []
        results = [answer_call(call, self.tools, self.rounds_left) for call in calls]
        found = Counter((call.name, result) for call, result in zip(calls, results)) & self.wanted
        self.wanted -= found
        parts = {
            "calls": self.share * found.total(),
            "unreadable": float(sum(bool(call.unreadable) for call in calls)),
        }
        is_done = not calls or not self.rounds_left
        self.rounds_left -= 1
        return StepResult([{"role": "tool", "content": result} for result in results], is_done, parts)


def use_tools(prompt: Prompt, calls: Iterable[tuple[str, str]] = ()) -> ToolUse:
    """An episode in which the prompt's tools can be called.

    calls  that lead to the answer, each with its result (JSON texts), where they are known
    """
    wanted = Counter((loads(call)["name"], result) for call, result in calls)
    return ToolUse(prompt, Toolbox(mock_tools(prompt), LIMITS), wanted)
