"""The page of trainings: curves while they run, several side by side, and what the model said as it learned."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from minimind.runs import plots
from minimind.runs.read import (
    Run,
    Sample,
    default_directory,
    differences,
    find_runs,
    read_run,
    read_samples,
    size_of,
)
from minimind.util.units import date_text, duration, number_text, short, size_text
from minimind.web import markup
from minimind.web.charts import line_chart
from minimind.web.i18n import say, translated

REFRESH = 3  # seconds between two looks at a training that is running
MOST_STEPS = 60  # of samples on the page


def page() -> None:
    st.title(say("Runs"))
    known = {run.name: run for run in find_runs(default_directory())}
    if not known:
        st.info(say("No run in {place} yet. `minimind quickstart` makes one.", place=default_directory()))
        return
    chosen = st.multiselect(
        say("Runs to look at"), list(known), default=list(known)[:1], key="runs", persist_state="session"
    )
    runs = [known[name] for name in chosen if name in known]
    if not runs:
        st.info(say("Choose at least one run."))
        return
    running = any(run.status == "running" for run in runs)
    st.fragment(run_every=REFRESH if running else None)(watch)([(run.path, run.name) for run in runs])
    if len(runs) > 1:
        compare(runs)
    for run in runs:
        show_samples(run, heading=len(runs) > 1)
    for run in runs:
        details(run)


def watch(places: Sequence[tuple[Path, str]]) -> None:
    """Figures and curves, read anew each time; the page follows when a training has ended."""
    runs = [read_run(path, name) for path, name in places]
    for run in runs:
        figures_of(run)
    charts = plots.charts(runs, translated)
    for first in range(0, len(charts), 2):
        for column, chart in zip(st.columns(2, gap="medium"), charts[first : first + 2]):
            with column:
                names = [one.name for one in chart.series] if len(chart.series) > 1 else []
                st.html(markup.legend(chart.title, names))
                drawn = line_chart(chart.series, say("tokens"), chart.log)
                st.altair_chart(drawn, width="stretch", key=f"chart-{chart.title}")
    if not charts:
        st.info(say("No figures yet; the first come after a few steps."))


def figures_of(run: Run) -> None:
    """A run's figures in one line of cards."""
    values = run.summary()
    steps, total = values["steps"], values["total_steps"]
    scored = {say("reward"): values["reward"], say("held-out score"): values["score"]}
    usual = {say("loss"): values["loss"], say("bits per byte"): values["bits_per_byte"]}
    known = {
        say("steps"): f"{steps:,} / {total:,}" if total and total != steps else f"{steps:,}",
        say("tokens"): short(values["tokens"]),
        **{name: number(value) for name, value in (usual if values["score"] is None else scored).items()},
        say("tokens/s"): number(values["tokens_per_second"]),
        say("time"): duration(values["seconds"]) if values["seconds"] else "–",
    }
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{markup.plain(run.name)}**", width="content")
            st.badge(say(run.status), color=COLOURS.get(run.status, "gray"))
            st.caption(run.stage, width="content")
        st.html(markup.cards(known))
        if total and run.status == "running":
            st.progress(min(1.0, steps / total))


COLOURS: dict[str, Any] = {"running": "blue", "finished": "green", "failed": "red", "damaged": "red"}


def number(value: float | None) -> str:
    return "–" if value is None else number_text(value)


def compare(runs: Sequence[Run]) -> None:
    """The settings in which the runs differ."""
    st.subheader(say("What differs"))
    rows: list[list[Any]] = [["", *(run.name for run in runs)]]
    rows += [[key, *values] for key, values in differences(list(runs)).items()]
    st.html(markup.table(rows) if len(rows) > 1 else markup.block(say("The settings are the same."), "quiet"))


def show_samples(run: Run, heading: bool) -> None:
    """What the model made of one prompt at every evaluation."""
    by_prompt: dict[str, list[Sample]] = {}
    for sample in read_samples(run):
        by_prompt.setdefault(sample.prompt, []).append(sample)
    if not by_prompt:
        return
    st.subheader(say("Samples while it learned") + (f" · {markup.plain(run.name)}" if heading else ""))
    prompt = st.selectbox(say("Prompt"), list(by_prompt), format_func=one_line, key=f"prompt-{run.path}")
    answers = by_prompt[prompt or next(iter(by_prompt))][-MOST_STEPS:]
    with st.container(height=420 if len(answers) > 4 else "content"):
        earned = list(dict.fromkeys(name for one in answers for name in one.earned))
        rows = [
            [say("step {step}", step=one.step), one.answer, *(one.earned.get(name) for name in earned)]
            for one in answers
        ]
        names = [["", "", *map(translated, earned)]] if earned else []
        st.html(markup.table([*names, *rows]))


def one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:89]}…"


def details(run: Run) -> None:
    """Settings, environment and the report of a run."""
    with st.expander(f"{say('Settings and report')} · {markup.plain(run.name)}"):
        started = run.state.get("started")
        rows: list[list[Any]] = [
            [say("directory"), str(run.path)],
            [say("started"), date_text(started) if started else None],
            [say("size"), size_text(size_of(run.path))],
            [say("command"), plots.command_of(run)],
            *([key, value] for key, value in run.recipe.items()),
        ]
        st.download_button(
            say("Download the report"),
            data=lambda: report(run),
            file_name=f"{run.path.name}.html",
            mime="text/html",
            icon=":material/description:",
            key=f"report-{run.path}",
        )
        st.html(markup.table([row for row in rows if row[1] not in (None, "", [])]))


def report(run: Run) -> bytes:
    """The run's report page; written elsewhere, since looking at a run changes nothing in it."""
    with tempfile.TemporaryDirectory() as directory:
        return plots.report(run, Path(directory) / "report.html").read_bytes()
