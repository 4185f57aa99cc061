"""A visitor's conversations on the page: the open one, the list of them, and what can be done with one."""

from __future__ import annotations

import re
from functools import partial

import streamlit as st

from minimind.errors import UserError
from minimind.runs.read import default_directory
from minimind.web import export, markup
from minimind.web.browser import browser_id
from minimind.web.history import Chat, History
from minimind.web.i18n import say
from minimind.web.settings import put_back

SHOWN = 7  # in the list at once; of more it scrolls
MOST = 200  # in the list at all: each is a button that a browser has to draw


def history() -> History | None:
    """Where the visitor's conversations are kept; None where the browser takes no cookies."""
    name = browser_id()
    return None if name is None else History(default_directory() / "conversations" / name)


def current(refresh: bool) -> Chat:
    """The conversation that is open: the one that the address names, else the one of before, else a new one.

    refresh  take over what another tab has added to it
    """
    chat: Chat | None = st.session_state.get("chat")
    named, kept = st.query_params.get("c"), history()
    if named and kept and (chat is None or chat.id != named):
        try:
            open_(kept.load(named))
        except UserError:
            st.toast(say("This conversation was deleted, is damaged, or is another browser's."))
    elif chat and kept and refresh and not chat.is_growing:
        st.session_state["chat"] = kept.newest(chat)
    chat = st.session_state.setdefault("chat", Chat())
    name_in_address(chat)
    return chat


def open_(chat: Chat) -> None:
    if before := st.session_state.get("chat"):
        stop(before)
    st.session_state["chat"] = chat
    st.session_state.pop("editing", None)
    put_back(chat.settings)
    name_in_address(chat)


def name_in_address(chat: Chat) -> None:
    """So that a reload, or the same address in another tab, opens it."""
    if chat.revision:
        st.query_params["c"] = chat.id
    else:
        st.query_params.pop("c", None)


def keep(chat: Chat) -> None:
    """Write it where the visitor's are; where that fails, say so."""
    if kept := history():
        try:
            kept.save(chat)
            name_in_address(chat)
        except OSError as error:
            st.toast(say("Not kept: {why}", why=error))


def stop(chat: Chat) -> None:
    """End the answers under way, which are kept as far as they came."""
    if chat.is_growing:
        for answer in chat.turns[-1].answers.values():
            answer.stop()
        keep(chat)


def show_list(chat: Chat) -> None:
    st.button(
        say("New conversation"),
        on_click=lambda: open_(Chat()),
        icon=":material/add_comment:",
        width="stretch",
        key="new",
    )
    kept = history()
    titles = kept.titles() if kept else {}
    if not kept or not titles:
        return
    with st.container(
        height=300 if len(titles) > SHOWN else "content", border=False, key="conversations", gap=None
    ):
        for id, title in list(titles.items())[:MOST]:
            with st.container(horizontal=True, vertical_alignment="center", gap=None, key=f"row-{id}"):
                is_open = id == chat.id
                st.button(
                    (markup.plain(title) or "…") if title is not None else say("(damaged)"),
                    key=f"open-{id}",
                    type="secondary" if is_open else "tertiary",
                    width="stretch",
                    on_click=choose,
                    args=[kept, id],
                    disabled=title is None,
                )
                if is_open or title is None:
                    with st.popover("", icon=":material/more_horiz:", type="tertiary", key=f"menu-{id}"):
                        menu(kept, id, chat if is_open else None)


def choose(kept: History, id: str) -> None:
    try:
        open_(kept.load(id))
    except UserError as error:
        st.toast(str(error))


def menu(kept: History, id: str, chat: Chat | None) -> None:
    """What can be done with a conversation; of a damaged one, None, only that it goes."""
    if chat:
        st.text_input(
            say("Name"), chat.title, max_chars=60, key=f"name-{id}", on_change=rename, args=[chat, f"name-{id}"]
        )
        file = re.sub(r"[^\w -]+", "", chat.title)[:40].strip() or "conversation"
        for label, write, ending in (
            (say("Export as Markdown"), export.markdown, "md"),
            (say("Export as training data"), export.jsonl, "jsonl"),
        ):
            st.download_button(
                label,
                data=partial(write, chat),
                file_name=f"{file}.{ending}",
                mime="text/plain",
                icon=":material/download:",
                type="tertiary",
                key=f"{ending}-{id}",
            )
    st.button(
        say("Delete"),
        icon=":material/delete:",
        type="tertiary",
        key=f"delete-{id}",
        on_click=delete,
        args=[kept, id],
    )


def rename(chat: Chat, key: str) -> None:
    chat.name = " ".join(st.session_state[key].split())
    keep(chat)


def delete(kept: History, id: str) -> None:
    kept.delete(id)
    if st.session_state["chat"].id == id:
        open_(Chat())
        kept.delete(id)  # an answer under way was kept once more
