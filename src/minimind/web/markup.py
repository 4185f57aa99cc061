"""Our own HTML. All text in them is escaped: it comes from models and files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from minimind.data.sources.show import TokenRun
from minimind.infer.events import Token
from minimind.infer.text import REPLACEMENT
from minimind.runs.html import is_number, text
from minimind.runs.svg import DARK, LIGHT


def plain(name: str) -> str:
    """A name inside Markdown, as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|:$~" else c for c in name)


def block(inner: str, classes: str = "") -> str:
    return f'<div class="mm {classes}">{inner}</div>'


def table(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of cells; the first of a row is its heading, numbers stand to the right."""
    return block(f'<div class="scroll"><table>{"".join(map(_row, rows))}</table></div>')


def _row(cells: Sequence[Any]) -> str:
    first, *rest = cells
    return f"<tr><th>{text(first)}</th>{''.join(map(_cell, rest))}</tr>"


def _cell(value: Any) -> str:
    return f'<td class="{"number" if is_number(value) else "said"}">{text(value)}</td>'


def tokens(answer: Iterable[Token]) -> str:
    """An answer token by token: the less likely, the redder; what else was likely shows under the pointer."""
    return block("".join(map(_token, answer)), "tokens")


def _token(token: Token) -> str:
    rows = [token, *(one for one in token.top_logprobs if one.text != token.text)]
    style = f"--p:{math.exp(token.logprob):.3f}"
    tip = f'<span class="tip">{"".join(map(_likely, rows))}</span>'
    return f'<span class="token" tabindex="0" style="{style}">{text(token.text)}{tip}</span>'


def _likely(token: Token) -> str:
    percent = 100 * math.exp(token.logprob)
    bar = f'<div class="bar"><i style="width:{percent:.1f}%"></i></div>'
    return f'<div class="row"><span>{text(visible(token.text))}</span>{bar}<div>{percent:.1f}%</div></div>'


def tool_card(name: str, arguments: Any, result: str | None) -> str:
    """A tool call, and what came of it; None while the tool is at work."""
    arguments = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    shown = '<div class="waiting">…</div>' if result is None else f"<code>{text(result)}</code>"
    return block(f"<div><b>{text(name)}</b> <code>{text(arguments)}</code></div>{shown}", "call")


def copy_button(what: str, label: str, done: str) -> str:
    """A button that copies a text (`script.py` says how), and what it says once it has."""
    return block(f'<button data-copy="{text(what)}" data-done="{text(done)}">{text(label)}</button>', "copy")


def visible(token: str) -> str:
    """A token with its white space to be seen."""
    shown = {" ": "␣", "\n": "↵", "\t": "⇥", REPLACEMENT: "·"}  # the last: bytes that are no whole character
    return "".join(shown.get(character, character) for character in token) or "∅"


def masked(runs: Iterable[TokenRun]) -> str:
    """A document as it is trained: what the model learns has a ground, control tokens a frame."""
    shown = []
    for one in runs:
        classes = " ".join(name for name, on in (("trained", one.trained), ("control", one.control)) if on)
        shown.append(f'<span class="{classes}">{text(one.text)}</span>')
    return block("".join(shown), "masked")


def cards(values: dict[str, str]) -> str:
    """Figures side by side, each under its name; on a narrow page in several lines."""
    shown = "".join(f"<div><small>{text(name)}</small><b>{text(value)}</b></div>" for name, value in values.items())
    return block(shown, "cards")


def legend(title: str, names: Sequence[str]) -> str:
    """A chart's title, and after it the names of its lines in their colors."""
    colors = [f"light-dark({light},{dark})" for light, dark in zip(LIGHT, DARK)]
    shown = "".join(
        f'<span><i style="background:{colors[i % len(colors)]}"></i>{text(name)}</span>'
        for i, name in enumerate(names)
    )
    return block(f"<b>{text(title)}</b>{shown}", "legend")


def packed(rows: Iterable[Sequence[tuple[int, int]]], seq_len: int, title: str) -> str:
    """Rows of (document, length): each a bar, as wide as its share of the row; what is left is padding.

    `title`, with its {number} and {length}, shows under the pointer.
    """
    lines = []
    for r, row in enumerate(rows):
        bars = "".join(
            f'<i style="width:{100 * length / seq_len:.3f}%;--color:{LIGHT[(r + i) % len(LIGHT)]}" '
            f'title="{text(title.format(number=number, length=length))}"></i>'
            for i, (number, length) in enumerate(row)
        )
        lines.append(f'<div class="row">{bars}</div>')
    return block("".join(lines), "packed")


def stack(parts: Sequence[tuple[str, str]], repeated: Sequence[tuple[str, str]], times: str) -> str:
    """A model from its input to its output: (part, what it has); in the middle the layer that is repeated."""
    before, after = parts[:1], parts[1:]
    layer = f'<div class="times"><em>{text(times)}</em>{"".join(map(_part, repeated))}</div>'
    return block("".join([*map(_part, before), layer, *map(_part, after)]), "stack")


def _part(one: tuple[str, str]) -> str:
    return f'<div class="part"><b>{text(one[0])}</b><span>{text(one[1])}</span></div>'


def heads(layers: Iterable[Sequence[str]], layer_name: str, head_name: str) -> str:
    """One small picture (a data URL) for each layer and head."""
    rows = []
    for i, images in enumerate(layers):
        names = [text(f"{layer_name} {i} · {head_name} {j}") for j in range(len(images))]
        pictures = [f'<img src="{u}" alt="{n}"><figcaption>{n}</figcaption>' for u, n in zip(images, names)]
        rows.append(f'<div class="layer"><figure>{"</figure><figure>".join(pictures)}</figure></div>')
    return block("".join(rows), "heads")


def shares(rows: Iterable[tuple[str, float, str]]) -> str:
    """(name, share of the whole, figure beside it), each share with a bar."""
    return block("".join(map(_share, rows)), "shares")


def _share(row: tuple[str, float, str]) -> str:
    name, share, figure = row
    bar = f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
    return f"<div>{text(name)}</div>{bar}<div>{share:.1%}</div><div>{text(figure)}</div>"
