"""From messages to text, with the place of everything in it.

The rendered text alone does not say who wrote what: a user may type `<|im_end|>` or `<tool_call>`. So before
rendering, every control string inside a message gets an invisible break after its first character, and the
template marks what the assistant wrote. Afterwards marks and breaks are taken out, and what is left whole
was written by the template itself. The text is exactly what the template gives without all this: a break
stands inside a string, and templates change strings at their borders only.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import jinja2

from minimind.tokenizer.allowance import Allowance, weigh
from minimind.tokenizer.messages import ChatError, normalize, split_reasoning, validate
from minimind.tokenizer.template import BREAK, TURN_END, TURN_START, compile_template, has_generation_blocks, render
from minimind.tokenizer.windows import TextSpan

__all__ = ["ChatError", "ChatTemplate", "Rendered", "normalize", "trained_spans", "validate"]

PRIVATE = BREAK + TURN_START + TURN_END


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with character positions in it (start, end)."""

    text: str
    controls: list[TextSpan]
    """The control strings that the template wrote (not those that somebody typed)."""
    turns: list[TextSpan]
    """What the assistant wrote, in order: thinking, content, tool calls and the closing control string."""

    def without_last_end(self) -> "Rendered":
        """Up to the control string that closes the assistant's last turn."""
        if not self.turns:
            raise ChatError(
                "the chat template leaves out what the assistant wrote, so nothing can go on from there"
            )
        start, end = self.turns[-1]
        if self.controls and self.controls[-1][1] == end:
            end = self.controls[-1][0]
        controls = [span for span in self.controls if span[1] <= end]
        return Rendered(self.text[:end], controls, [*self.turns[:-1], (start, end)])


class ChatTemplate:
    """A compiled Jinja chat template together with the control strings of its tokenizer.

    name            how errors call it, which say where it is
    special_tokens  `bos_token` and its kind, by the names that templates know
    """

    def __init__(
        self,
        source: str,
        control_strings: Collection[str],
        name: str = "the chat template",
        special_tokens: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.source, self.name = source, name
        self._special_tokens = special_tokens
        self._template = compile_template(source)
        self._marks_turns = has_generation_blocks(source)
        self._splits_reasoning = "reasoning_content" in source
        # The longest first, as the tokenizer matches them; `(?!)` matches nothing.
        longest_first = sorted(control_strings, key=len, reverse=True)
        control = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._control = re.compile(control)
        # Alternatives that all begin with a literal character let `re` skip ahead quickly.
        self._unsafe = re.compile("|".join([*PRIVATE, control]))
        self._to_break = re.compile(f"[{PRIVATE}]|(?={control}).", re.DOTALL)
        self._marks = re.compile(f"{BREAK}([{PRIVATE}]?)|{TURN_START}|{TURN_END}|{control}")

    def render(self, messages: Sequence[dict], tools: list | None, turns: bool = True, **flags: bool) -> Rendered:
        """Render normalized messages; `turns=False` saves the work of finding the assistant's turns."""
        if self._splits_reasoning:
            messages = [split_reasoning(message) for message in messages]
        try:
            allowance = Allowance(weigh([messages, tools]), times=1 + 2 * len(messages))
            messages = _map_strings(messages, self._protect)
            tools = _map_strings(tools, self._protect) or None
            fill = partial(render, self._template, allowance, tools=tools, **self._special_tokens)
            marked = fill(messages=messages, **flags)
            if turns and not self._marks_turns:
                marked = self._mark_turns(marked, messages, fill)
        except jinja2.TemplateError as error:
            raise ChatError(f"{self.name} cannot render this conversation: {error}") from error
        return self._read_marks(marked)

    def _protect(self, text: str) -> str:
        if not self._unsafe.search(text):
            return text
        return self._to_break.sub(lambda match: BREAK + match[0] if match[0] in PRIVATE else match[0] + BREAK, text)

    def _mark_turns(self, text: str, messages: Sequence[dict], fill: Callable[..., str]) -> str:
        """Mark the assistant's turns for a template that has no generation blocks, by rendering its beginnings.

        A turn starts where the generation prompt before it ends. A turn with thinking of its own differs from
        the prompt's empty thinking block, and starts where that block does.
        """
        pieces, done = [], 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = fill(messages=messages[:index], add_generation_prompt=True)
            if not text.startswith(prompt):
                prompt = prompt.rpartition("<think>")[0]
            turn = fill(messages=messages[: index + 1])
            if not prompt or not text.startswith(prompt) or not text.startswith(turn):
                raise ChatError(f"{self.name} changes earlier turns, so nothing can be trained with it")
            end = max((match.end() for match in self._control.finditer(turn)), default=len(turn))
            pieces += [text[done : len(prompt)], TURN_START, text[len(prompt) : end], TURN_END]
            done = end
        return "".join([*pieces, text[done:]])

    def _read_marks(self, marked: str) -> Rendered:
        pieces: list[str] = []
        controls: list[TextSpan] = []
        starts: list[int] = []
        ends: list[int] = []
        length = done = 0
        for match in self._marks.finditer(marked):
            before, mark = marked[done : match.start()], match[0]
            done = match.end()
            pieces.append(before)
            length += len(before)
            if mark == TURN_START:
                starts.append(length)
            elif mark == TURN_END:
                ends.append(length)
            elif mark[0] == BREAK:
                pieces.append(match[1])
                length += len(match[1])
            else:
                pieces.append(mark)
                controls.append((length, length + len(mark)))
                length += len(mark)
        pieces.append(marked[done:])
        return Rendered("".join(pieces), controls, list(zip(starts, ends)))


def trained_spans(
    rendered: Rendered, messages: Sequence[dict], train_on: str, train_thinking: bool, train_tool_calls: bool
) -> list[TextSpan]:
    """The parts of the text to train on: all assistant turns or the last one, with or without two parts.

    A turn whose message has `train: False` is not among them.
    """
    if train_on not in ("assistant", "last"):
        raise ValueError(f'train_on is "assistant" or "last", not {train_on!r}')
    trained = [message.get("train", True) for message in messages if message["role"] == "assistant"]
    if not all(trained) and len(trained) != len(rendered.turns):
        raise ChatError("this chat template does not mark every answer, so none can be left out of the training")
    turns = rendered.turns if all(trained) else [turn for turn, wanted in zip(rendered.turns, trained) if wanted]
    if train_on == "last":
        turns = turns[-1:] if trained and trained[-1] else []
    if train_thinking and train_tool_calls:
        return turns
    return [span for turn in turns for span in _parts(rendered, turn, train_thinking, train_tool_calls)]


def _parts(rendered: Rendered, turn: TextSpan, thinking: bool, tool_calls: bool) -> Iterator[TextSpan]:
    start, end = turn
    text = rendered.text
    inside = [span for span in rendered.controls if start <= span[0] and span[1] <= end]
    thought = [after for before, after in inside if text[before:after] == "</think>"]
    if thought and not thinking:
        start = thought[0]
        while text[start] == "\n":
            start += 1
    opened = [before for before, after in inside if text[before:after] == "<tool_call>"]
    closed = [after for before, after in inside if text[before:after] == "</tool_call>"]
    if opened and not tool_calls:
        yield start, opened[0]
        start = closed[-1]
    yield start, end


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """`value` (JSON-like) with every string in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_strings(item, change) for item in value]
    return value
