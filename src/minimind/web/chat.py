"""The page of conversations: one or several models answer, token by token."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from minimind.runs.html import text
from minimind.web import conversations
from minimind.web.answers import show_answer
from minimind.web.history import Chat, Turn
from minimind.web.i18n import say
from minimind.web.markup import block
from minimind.web.session import Answer
from minimind.web.settings import ChatSettings, choose_settings

PAINTS = 15  # times a second at most that a growing answer is drawn
SAVES = 1.0  # seconds between two writings of a growing answer: what a closed page loses of it


def page() -> None:
    with st.sidebar:
        above_settings = st.container()
    with st.bottom:
        above_input = st.empty()
    message = st.chat_input(say("Say something"), key="said")
    chat = conversations.current(refresh=not message)
    settings = choose_settings()
    if message and settings:
        conversations.stop(chat)
        chat.turns.append(Turn(message))
        begin(chat, settings)
    with above_settings:
        conversations.show_list(chat)
    if not chat.turns and settings:
        welcome(settings)
    places: dict[str, Any] = {}
    for number in range(len(chat.turns)):
        places = show_turn(chat, number, settings)
    if settings and chat.is_growing:
        above_input.button(
            say("Stop"), on_click=conversations.stop, args=[chat], icon=":material/stop_circle:", key="stop"
        )
        write(chat, places, settings)
        st.rerun()


def welcome(settings: ChatSettings) -> None:
    st.html(
        block(f"<h2>{text(say('What shall we talk about?'))}</h2>{text(', '.join(settings.models))}", "welcome")
    )


# ------------------------------------------------------------------------------------------------ asking


def begin(chat: Chat, settings: ChatSettings) -> None:
    """Let every chosen model begin its answer to the last turn; `write` goes on with them."""
    chat.settings = settings.kept()
    turn, turn.answers = chat.turns[-1], {}
    for name, speaker in settings.models.items():
        answer = turn.answers[name] = Answer()
        answer.begin(
            speaker,
            settings.sampling,
            chat.messages(name, len(chat.turns) - 1),
            turn.text,
            system=settings.system,
            think=settings.think,
            tools=settings.tools,
        )
    conversations.keep(chat)


def write(chat: Chat, places: dict[str, Any], settings: ChatSettings) -> None:
    """Lengthen the answers of the last turn by a token each in turn, and draw them as they grow."""
    answers = chat.turns[-1].answers
    painted, saved = 0.0, time.monotonic()
    while growing := {name: answer for name, answer in answers.items() if answer.steps}:
        for answer in growing.values():
            answer.advance()
        now = time.monotonic()
        if now - painted > 1 / PAINTS:
            for name, answer in growing.items():
                with places[name].container():
                    show_answer(answer, settings.probabilities)
            painted = time.monotonic()
        if now - saved > SAVES:
            conversations.keep(chat)
            saved = now
    conversations.keep(chat)


def change(chat: Chat, number: int, message: str, settings: ChatSettings) -> None:
    """Ask again from an earlier turn on, with another text; what came after it is forgotten."""
    conversations.stop(chat)
    del chat.turns[number + 1 :]
    chat.turns[number].text = message
    st.session_state.pop("editing", None)
    begin(chat, settings)


# --------------------------------------------------------------------------------------------- showing


def show_turn(chat: Chat, number: int, settings: ChatSettings | None) -> dict[str, Any]:
    """A turn and its answers side by side; returns the places of the answers, to be drawn anew."""
    turn = chat.turns[number]
    with st.chat_message("user", avatar=":material/person:"):
        if settings and st.session_state.get("editing") == number:
            edit(chat, number, settings)
        else:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.html(block(text(turn.text), "said"))
                st.button(
                    say("Edit"),
                    key=f"edit-{number}",
                    icon=":material/edit:",
                    type="tertiary",
                    on_click=st.session_state.__setitem__,
                    args=["editing", number],
                )
    places = {}
    several = len(turn.answers) > 1
    with st.container(key=f"{'answers' if several else 'answer'}-{number}"):
        columns = st.columns(len(turn.answers)) if several else [st.container()]
    for (name, answer), column in zip(turn.answers.items(), columns):
        with column, st.chat_message("assistant", avatar=":material/neurology:"):
            if several:
                st.html(block(text(name), "quiet"))
            places[name] = st.empty()
            with places[name].container():
                show_answer(answer, settings is not None and settings.probabilities)
    if settings and number == len(chat.turns) - 1 and not chat.is_growing:
        st.button(
            say("Answer again"),
            key="again",
            icon=":material/refresh:",
            type="tertiary",
            on_click=change,
            args=[chat, number, turn.text, settings],
        )
    return places


def edit(chat: Chat, number: int, settings: ChatSettings) -> None:
    with st.form(f"edit-{number}", border=False):
        message = st.text_area(say("Your message"), chat.turns[number].text, label_visibility="collapsed")
        with st.container(horizontal=True):
            sent = st.form_submit_button(say("Ask again"), type="primary")
            canceled = st.form_submit_button(say("Cancel"))
    if sent and message.strip():
        change(chat, number, message.strip(), settings)
        st.rerun()
    if canceled:
        del st.session_state["editing"]
        st.rerun()
