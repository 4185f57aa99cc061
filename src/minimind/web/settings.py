"""What the side bar of the conversations says: which models answer, and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from minimind.errors import UserError
from minimind.infer.remote import Server
from minimind.infer.sampler import SamplingParams
from minimind.model.hf.config import read_config
from minimind.runs.read import default_directory
from minimind.tools import Toolbox
from minimind.tools.builtin import builtin_tools
from minimind.web.i18n import say
from minimind.web.library import find_models, is_base
from minimind.web.session import Speaker, local, remote

named_tools = Toolbox()
"""What `minimind web --tools` opened, for all visitors."""


@dataclass(frozen=True)
class ChatSettings:
    """How to ask, and whom."""

    models: dict[str, Speaker]
    system: str
    think: bool
    tools: Toolbox
    probabilities: bool
    sampling: dict[str, Any]

    def kept(self) -> dict[str, Any]:
        """What a conversation keeps of them: the values of the side bar, and what the tools are."""
        values = {"models": list(self.models), "system": self.system, "think": self.think}
        values["server"] = st.session_state.get("server", "")
        return {**values, "tools": list(self.tools.tools), "schemas": self.tools.schemas}


def put_back(kept: dict[str, Any]) -> None:
    """Set the side bar to what a conversation was held with, as far as it is of the right kind."""
    kinds = {"models": list, "system": str, "think": bool, "tools": list, "server": str}
    st.session_state.update({key: kept[key] for key, kind in kinds.items() if isinstance(kept.get(key), kind)})


def choose_settings() -> ChatSettings | None:
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
    bases = {name for name, path in here.items() if is_base(path)}
    offered = builtin_tools() | named_tools.tools
    choose_among("models", speakers, [name for name in speakers if name not in bases][:1])
    choose_among("tools", offered, [])
    kept: dict[str, Any] = {"persist_state": "session"}
    with upper:
        chosen = st.multiselect(
            say("Models"),
            list(speakers),
            key="models",
            placeholder=say("none"),
            format_func=lambda name: say("{name} (base)", name=name) if name in bases else name,
            **kept,
        )
        system = st.text_area(say("System message"), key="system", height=80, **kept)
        think = st.toggle(say("Think first"), key="think", **kept)
        probabilities = st.toggle(say("Show probabilities"), key="probabilities", **kept)
        wanted = st.multiselect(say("Tools"), list(offered), key="tools", placeholder=say("none"), **kept)
        with st.expander(say("Sampling")):
            sampling = choose_sampling()
    if not chosen:
        st.info(say("Choose at least one model in the side bar."))
        if bases >= speakers.keys():
            st.caption(say("A base model was only pretrained: it goes on with a text and does not answer."))
        return None
    models = {name: speakers[name] for name in chosen}
    limits = named_tools.limits
    for name in models.keys() & here.keys():
        limits = limits.for_context(read_config(here[name]).context_length)
    tools = Toolbox([offered[name] for name in wanted], limits)
    return ChatSettings(models, system.strip(), think, tools, probabilities, sampling)


def choose_among(key: str, options: Any, default: list[str]) -> None:
    """Begin a choice with a default; what is there no longer leaves it, for the default if nothing else is left."""
    chosen = st.session_state.setdefault(key, default)
    if any(one not in options for one in chosen):
        st.session_state[key] = [one for one in chosen if one in options] or default


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
