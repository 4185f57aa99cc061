"""Curves of runs and heat maps, drawn by Altair in the colors of Streamlit's theme."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from minimind.runs.svg import Series, points, thin


def line_chart(series: Sequence[Series], x_label: str, log_y: bool) -> alt.Chart:
    """Some lines over a shared x axis, in the order of the theme's colors (`markup.legend` names them)."""
    rows: list[dict[str, Any]] = [
        {"run": one.name, "x": x, "y": y}
        for one in series
        for x, y in thin(points(one, log_y))
        if y is not None  # a gap
    ]
    ys = [row["y"] for row in rows]
    # A logarithmic axis over less than a decade has one tick and says nothing.
    kind: Literal["log", "linear"] = "log" if log_y and ys and max(ys) > 10 * min(ys) else "linear"
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, strokeJoin="round", point=len(rows) < 3 * len(series))
        .encode(
            x=alt.X("x:Q", title=x_label, axis=alt.Axis(format="~s", tickCount=5, grid=False)),
            y=alt.Y(
                "y:Q",
                title=None,
                scale=alt.Scale(type=kind, zero=False),
                axis=alt.Axis(format="~s" if ys and max(ys) >= 1000 else ".4~g", tickCount=5),
            ),
            color=alt.Color("run:N", legend=None, sort=None, scale=alt.Scale(domain=[s.name for s in series])),
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("x:Q", title=x_label, format=","),
                alt.Tooltip("y:Q", format=".5~g"),
            ],
        )
        .properties(height=230)
    )


def heat_map(weights: Sequence[Sequence[float]], labels: Sequence[str], x_label: str, y_label: str) -> alt.Chart:
    """A lower triangle of weights in [0, 1] (row: who looks, column: at whom), each square with its labels."""
    rows = [
        {"from": i, "to": j, "weight": weight, "who": labels[i], "whom": labels[j]}
        for i, row in enumerate(weights)
        for j, weight in enumerate(row[: i + 1])
    ]
    # Places on the axes are numbers, since a token may come twice; the axis shows the token that stands there.
    names = f"{json.dumps(list(labels))}[datum.value]"
    axis: dict[str, Any] = {"labelExpr": names, "ticks": False, "domain": False, "labelOverlap": False}
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X("to:O", title=x_label, axis=alt.Axis(labelAngle=-90, **axis)),
            y=alt.Y("from:O", title=y_label, axis=alt.Axis(**axis)),
            color=alt.Color("weight:Q", legend=None, scale=alt.Scale(type="sqrt", domain=[0, 1])),
            tooltip=[
                alt.Tooltip("who:N", title=y_label),
                alt.Tooltip("whom:N", title=x_label),
                alt.Tooltip("weight:Q", format=".1%"),
            ],
        )
        .properties(height=max(280, 22 * len(labels)))
    )
