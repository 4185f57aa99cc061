"""The page of conversations: one or several models answer, token by token."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from minimind.errors import UserError
from minimind.infer.remote import Server
from minimind.infer.sampler import SamplingParams
from minimind.model.hf.config import read_config
from minimind.runs.html import text
from minimind.runs.read import default_directory
from minimind.tokenizer.messages import Message
from minimind.tools import Toolbox
from minimind.tools.builtin import builtin_tools
from minimind.web.answers import show_answer
from minimind.web.i18n import say
from minimind.web.library import find_models
from minimind.web.markup import block
from minimind.web.session import Answer, Speaker, local, remote

PAINTS = 15  # times a second at most that a growing answer is drawn

named_tools = Toolbox()
"""What `minimind web --tools` opened, for all visitors."""


@dataclass
class Turn:
    """What the user said, and what each model made of it, by the model's name."""

    text: str
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatSettings:
    """What the side bar says."""

    models: dict[str, Speaker]
    system: str
    think: bool
    tools: Toolbox
    probabilities: bool
    sampling: dict[str, Any]


def page() -> None:
    turns: list[Turn] = st.session_state.setdefault("turns", [])
    settings = choose_settings(turns)
    if settings is None:
        return
    with st.bottom:
        above_input = st.empty()
    if message := st.chat_input(say("Say something"), key="said"):
        stop(turns)
        turns.append(Turn(message))
        begin(turns, settings)
    if not turns:
        welcome(settings)
    for number in range(len(turns)):
        places = show_turn(turns, number, settings)
    if turns and any(answer.steps for answer in turns[-1].answers.values()):
        above_input.button(say("Stop"), on_click=stop, args=[turns], icon=":material/stop_circle:", key="stop")
        write(turns[-1], places, settings)
        st.rerun()


def welcome(settings: ChatSettings) -> None:
    st.html(
        block(f"<h2>{text(say('What shall we talk about?'))}</h2>{text(', '.join(settings.models))}", "welcome")
    )


# ------------------------------------------------------------------------------------------------ asking


def begin(turns: list[Turn], settings: ChatSettings) -> None:
    """Let every chosen model begin its answer to the last turn; `write` goes on with them."""
    turns[-1].answers = {}
    for name, speaker in settings.models.items():
        answer = turns[-1].answers[name] = Answer()
        answer.begin(
            speaker,
            settings.sampling,
            messages_before(turns, name),
            turns[-1].text,
            system=settings.system,
            think=settings.think,
            tools=settings.tools,
        )


def messages_before(turns: list[Turn], name: str) -> list[Message]:
    """All messages before the last turn as one model sees them: with its own answers, else with the first."""
    messages: list[Message] = []
    for turn in turns[:-1]:
        messages.append({"role": "user", "content": turn.text})
        if answer := turn.answers.get(name) or next(iter(turn.answers.values()), None):
            messages += answer.messages
    return messages


def write(turn: Turn, places: dict[str, Any], settings: ChatSettings) -> None:
    """Lengthen the answers of a turn by a token each in turn, and draw them as they grow."""
    painted = 0.0
    while growing := {name: answer for name, answer in turn.answers.items() if answer.steps}:
        for answer in growing.values():
            answer.advance()
        if time.monotonic() - painted > 1 / PAINTS:
            for name, answer in growing.items():
                with places[name].container():
                    show_answer(answer, settings.probabilities)
            painted = time.monotonic()


def stop(turns: list[Turn]) -> None:
    for answer in turns[-1].answers.values() if turns else ():
        answer.stop()


def change(turns: list[Turn], number: int, message: str, settings: ChatSettings) -> None:
    """Ask again from an earlier turn on, with another text; what came after it is forgotten."""
    stop(turns)
    del turns[number + 1 :]
    turns[number].text = message
    st.session_state.pop("editing", None)
    begin(turns, settings)


# --------------------------------------------------------------------------------------------- showing


def show_turn(turns: list[Turn], number: int, settings: ChatSettings) -> dict[str, Any]:
    """A turn and its answers side by side; returns the places of the answers, to be drawn anew."""
    turn = turns[number]
    with st.chat_message("user", avatar=":material/person:"):
        if st.session_state.get("editing") == number:
            edit(turns, number, settings)
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
    columns = st.columns(len(turn.answers)) if len(turn.answers) > 1 else [st.container()]
    for (name, answer), column in zip(turn.answers.items(), columns):
        with column, st.chat_message("assistant", avatar=":material/neurology:"):
            if len(turn.answers) > 1:
                st.html(block(text(name), "quiet"))
            places[name] = st.empty()
            with places[name].container():
                show_answer(answer, settings.probabilities)
    if number == len(turns) - 1 and not any(answer.steps for answer in turn.answers.values()):
        st.button(
            say("Answer again"),
            key="again",
            icon=":material/refresh:",
            type="tertiary",
            on_click=change,
            args=[turns, number, turn.text, settings],
        )
    return places


def edit(turns: list[Turn], number: int, settings: ChatSettings) -> None:
    with st.form(f"edit-{number}", border=False):
        message = st.text_area(say("Your message"), turns[number].text, label_visibility="collapsed")
        with st.container(horizontal=True):
            sent = st.form_submit_button(say("Ask again"), type="primary")
            canceled = st.form_submit_button(say("Cancel"))
    if sent and message.strip():
        change(turns, number, message.strip(), settings)
        st.rerun()
    if canceled:
        del st.session_state["editing"]
        st.rerun()


# --------------------------------------------------------------------------------------------- settings


def choose_settings(turns: list[Turn]) -> ChatSettings | None:
    """The side bar; None where there is no model to talk with."""
    upper, lower = st.sidebar.container(), st.sidebar.container()
    here = find_models(default_directory())
    with lower:
        speakers: dict[str, Speaker] = {name: partial(local, path) for name, path in here.items()}
        speakers |= server_models()
    if not speakers:
        st.title(say("Chat"))
        st.info(say("No model in {place} yet. `minimind quickstart` makes one.", place=default_directory()))
        return None
    with upper:
        chosen = st.multiselect(
            say("Models"), list(speakers), default=list(speakers)[:1], key="models", persist_state="session"
        )
        system = st.text_area(say("System message"), key="system", height=80, persist_state="session")
        think = st.toggle(say("Think first"), key="think", persist_state="session")
        probabilities = st.toggle(say("Show probabilities"), key="probabilities", persist_state="session")
        offered = builtin_tools() | named_tools.tools
        wanted = st.multiselect(say("Tools"), list(offered), key="tools", persist_state="session")
        with st.expander(say("Sampling")):
            sampling = choose_sampling()
        st.button(
            say("New conversation"),
            on_click=new_conversation,
            args=[turns],
            icon=":material/add_comment:",
            width="stretch",
            key="new",
        )
    if not chosen:
        st.info(say("Choose at least one model in the side bar."))
        return None
    models = {name: speakers[name] for name in chosen if name in speakers}
    limits = named_tools.limits
    for name in models.keys() & here.keys():
        limits = limits.for_context(read_config(here[name]).context_length)
    tools = Toolbox([offered[name] for name in wanted], limits)
    return ChatSettings(models, system.strip(), think, tools, probabilities, sampling)


def server_models() -> dict[str, Speaker]:
    """The models of the server that the visitor named; what is wrong with it is said in its place."""
    with st.expander(say("A server's models")):
        kept: dict[str, Any] = {"persist_state": "session"}
        address = st.text_input(say("Address"), placeholder="http://127.0.0.1:8000/v1", key="server", **kept)
        key = st.text_input(say("API key, if it wants one"), type="password", key="server_key", **kept)
        if not address:
            return {}
        try:
            server, names = ask_server(address, key)
        except UserError as error:
            st.error(str(error))
            return {}
        return {f"{name} @ {server.host}": partial(remote, server, name) for name in names}


@st.cache_resource(ttl=60, show_spinner=False)
def ask_server(address: str, key: str) -> tuple[Server, list[str]]:
    server = Server(address, key)
    return server, server.models()


def new_conversation(turns: list[Turn]) -> None:
    stop(turns)
    turns.clear()
    st.session_state.pop("editing", None)


def choose_sampling() -> dict[str, Any]:
    """The fields of SamplingParams that a person sets."""
    usual = SamplingParams()
    kept: dict[str, Any] = {"persist_state": "session"}
    seed = st.number_input(say("Seed (empty: a new one)"), 0, 2**31, None, key="seed", **kept)
    return {
        "temperature": st.slider(say("Temperature"), 0.0, 2.0, usual.temperature, 0.05, key="temperature", **kept),
        "top_p": st.slider("Top-p", 0.05, 1.0, usual.top_p, 0.05, key="top_p", **kept),
        "top_k": st.slider(say("Top-k (0: all)"), 0, 200, usual.top_k, key="top_k", **kept),
        "min_p": st.slider("Min-p", 0.0, 0.5, usual.min_p, 0.01, key="min_p", **kept),
        "repetition_penalty": st.slider(
            say("Repetition penalty"), 1.0, 2.0, usual.repetition_penalty, 0.05, key="penalty", **kept
        ),
        "max_tokens": st.number_input(
            say("Longest answer (tokens)"), 1, 8192, usual.max_tokens, key="longest", **kept
        ),
        "seed": seed,
    }
