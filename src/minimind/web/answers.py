"""How an answer looks: thinking folded, text, tool calls as cards, or every token with its probability."""

from __future__ import annotations

import itertools

import streamlit as st

from minimind.infer.text import REPLACEMENT
from minimind.tokenizer.messages import Message
from minimind.web import markup
from minimind.web.i18n import say
from minimind.web.session import REASONS, Answer


def show_answer(answer: Answer, probabilities: bool) -> None:
    """Draw an answer as far as it came."""
    if probabilities and answer.shown:
        st.html(markup.tokens(answer.shown))
    else:
        for number, message in enumerate(answer.messages):
            if message["role"] == "assistant":
                after = answer.messages[number + 1 :]
                show_message(message, list(itertools.takewhile(lambda one: one["role"] == "tool", after)))
    if answer.steps and not answer.messages:
        st.caption(say("reading …"))
    if answer.note and answer.note not in REASONS:
        st.error(answer.note)
    elif answer.tokens:
        rate = f"{answer.tokens / answer.seconds:.0f}"
        facts = [say("{tokens} tokens, {rate} tokens/s", tokens=answer.tokens, rate=rate)]
        facts += [say(REASONS[answer.note])] if answer.note else []
        st.caption(" · ".join(facts))


def show_message(message: Message, results: list[Message]) -> None:
    """One message of the assistant, and a card for each tool that it calls, with the result once that is there.

    A call that could not be read stands in the text, and its result, an error, behind those of the others.
    """
    if thinking := message.get("reasoning_content"):
        with st.expander(say("Thinking"), icon=":material/psychology:"):
            st.markdown(harmless(thinking))
    if message["content"]:
        st.markdown(harmless(message["content"]))
    calls = message.get("tool_calls") or []
    for call, result in itertools.zip_longest(calls, results):
        with st.container(border=True):
            name, arguments = (call["name"], call["arguments"]) if call else ("?", "")
            st.html(markup.tool_card(name, arguments, result["content"] if result else None))


def harmless(text: str) -> str:
    """A model's Markdown without pictures, which the browser would fetch from wherever the model says."""
    return text.rstrip(REPLACEMENT).replace("![", "!\\[")
