"""How an answer looks: thinking folded, text, tool calls as cards, or every token with its probability."""

from __future__ import annotations

import itertools
import re

import streamlit as st

from minimind.infer.text import REPLACEMENT
from minimind.tokenizer.messages import Message
from minimind.web import markup
from minimind.web.i18n import say
from minimind.web.session import REASONS, Answer

ESCAPES = {"![": "!\\[", "$": "\\$"}
# Code, which stays as it is, or what is to be escaped outside of it.
MARKUP = re.compile(r"(?P<code>```.*?(?:```|\Z)|``.*?``|`[^`\n]+`)|!\[|(?<![\\$])\$(?!\$)", re.DOTALL)


def show_answer(answer: Answer, probabilities: bool) -> None:
    """Draw an answer as far as it came."""
    if probabilities and answer.shown:
        st.html(markup.tokens(answer.shown))
    else:
        for number, message in enumerate(answer.messages):
            if message["role"] == "assistant":
                after = answer.messages[number + 1 :]
                results = list(itertools.takewhile(lambda one: one["role"] == "tool", after))
                show_message(message, results, answer.note if number == len(answer.messages) - 1 else "")
    if answer.steps and not answer.messages:
        st.caption(say("reading …"))
    if answer.note and answer.note not in REASONS:
        st.error(answer.note)
        return
    facts = [say(REASONS[answer.note])] if answer.note else []
    if answer.tokens:
        rate = f"{answer.tokens / max(answer.seconds, 1e-9):,.0f}"
        facts.insert(0, say("{tokens} tokens, {rate} tokens/s", tokens=f"{answer.tokens:,}", rate=rate))
    if facts:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(" · ".join(facts), width="content")
            if not answer.steps and (said := answer.text):
                st.html(markup.copy_button(said, say("Copy"), say("Copied")), width="content")


def show_message(message: Message, results: list[Message], note: str) -> None:
    """One message of the assistant, and a card for each tool that it calls, with the result once that is there.

    A call that could not be read stands in the text, and its result, an error, behind those of the others.
    `note` says why the message ended before its time, perhaps amid thinking.
    """
    if thinking := message.get("reasoning_content"):
        ended = say(REASONS[note]) if note in REASONS and not message["content"] else ""
        with st.expander(" · ".join(filter(None, [say("Thinking"), ended])), icon=":material/psychology:"):
            st.markdown(harmless(thinking))
    if message["content"]:
        st.markdown(harmless(message["content"]))
    calls = message.get("tool_calls") or []
    for call, result in itertools.zip_longest(calls, results):
        with st.container(border=True):
            name, arguments = (call["name"], call["arguments"]) if call else ("?", "")
            st.html(markup.tool_card(name, arguments, result["content"] if result else None))


def harmless(text: str) -> str:
    """A model's Markdown without pictures, which the browser would fetch from wherever the model says.

    A lone dollar sign is one: "from $5 to $6" is no formula.
    """
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair, of a server's model, cannot be sent
    return MARKUP.sub(lambda found: found["code"] or ESCAPES[found[0]], text.rstrip(REPLACEMENT))
