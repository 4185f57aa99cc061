"""The script that Streamlit runs for every visitor and after every click: language, pages, and the page chosen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from minimind.errors import UserError
from minimind.web import chat, data, models, runs
from minimind.web.i18n import LANGUAGES, language, say
from minimind.web.script import SCRIPT
from minimind.web.style import STYLE

ICON = str(Path(__file__).with_name("icon.svg"))


def main() -> None:
    # A picture of our own: an icon by name would be fetched from a server outside.
    st.set_page_config("MiniMind", ICON, layout="wide")
    st.logo(ICON, size="large")
    with st.sidebar:
        st.segmented_control(
            "Language · 语言",
            list(LANGUAGES),
            default=language() if "lang" not in st.session_state else None,
            format_func=LANGUAGES.__getitem__,
            key="lang",
            required=True,
            label_visibility="collapsed",
            persist_state="session",
        )
    st.html(STYLE)
    st.html(SCRIPT, unsafe_allow_javascript=True)
    page = st.navigation(
        [
            st.Page(chat.page, title=say("Chat"), icon=":material/forum:", url_path="chat", default=True),
            st.Page(runs.page, title=say("Runs"), icon=":material/monitoring:", url_path="runs"),
            st.Page(data.page, title=say("Data"), icon=":material/dataset:", url_path="data"),
            st.Page(models.page, title=say("Models"), icon=":material/hub:", url_path="models"),
        ],
        position="sidebar",
    )
    try:
        page.run()
    except UserError as error:
        st.error(str(error))


main()
