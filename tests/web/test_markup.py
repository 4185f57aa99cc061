"""Our HTML says what it is given and nothing else; every word has its Chinese."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from minimind.data.sources.show import TokenRun
from minimind.infer.events import Token

pytest.importorskip("streamlit")

from minimind.model.count import PARTS
from minimind.runs.plots import CURVES
from minimind.web import markup
from minimind.web.answers import harmless
from minimind.web.i18n import CHINESE

EVIL = "<img src=x onerror=alert(1)>"
WEB = Path(markup.__file__).parent


def test_text_of_models_and_files_is_escaped() -> None:
    shown = [
        markup.tokens([Token(text=EVIL, logprob=-1.0, top_logprobs=(Token(text=EVIL + "!", logprob=-0.5),))]),
        markup.masked([TokenRun(EVIL, True, False)]),
        markup.tool_card(EVIL, {"a": EVIL}, EVIL),
        markup.table([[EVIL, EVIL]]),
        markup.cards({EVIL: EVIL}),
        markup.legend(EVIL, [EVIL]),
        markup.stack([(EVIL, EVIL)], [(EVIL, EVIL)], EVIL),
        markup.shares([(EVIL, 0.5, EVIL)]),
        markup.packed([[(1, 5)]], 10, EVIL),
    ]
    for html in shown:
        assert "<img" not in html
        assert "&lt;img" in html


def test_a_model_cannot_make_the_browser_fetch_a_picture() -> None:
    assert harmless("see ![x](http://evil/x.png) ![y][z]") == "see !\\[x](http://evil/x.png) !\\[y][z]"
    code = "`![x](y) $1` and ``a ` $2`` and\n```\n![x](y) $3\n```\n"
    assert harmless(code) == code
    assert harmless(f"{code}$4 ```\n$5 and ![") == f"{code}\\$4 ```\n$5 and !["  # code that is still growing
    assert harmless("$5, \\$6, $$x$$") == "\\$5, \\$6, $$x$$"
    assert harmless("so \ud83d") == "so ?"
    assert markup.plain("a_b [c](d)") == "a\\_b \\[c\\]\\(d\\)"


def test_tokens_carry_their_probability() -> None:
    first, other = Token(text=" a", logprob=math.log(0.25)), Token(text=" b", logprob=math.log(0.5))
    html = markup.tokens([replace(first, top_logprobs=(other, first))])
    assert "--p:0.250" in html
    assert re.findall(r"<span>(.*?)</span>", html) == ["␣a", "␣b"]
    assert re.findall(r"[\d.]+%(?=</div>)", html) == ["25.0%", "50.0%"]


def test_packed_rows_are_as_wide_as_they_are_long() -> None:
    html = markup.packed([[(3, 16), (1, 8)]], 32, "{number}: {length}")
    assert re.findall(r"width:([\d.]+)%", html) == ["50.000", "25.000"]
    assert re.findall(r'title="(.*?)"', html) == ["3: 16", "1: 8"]


def words_used() -> set[str]:
    """Every text given to `say`, and those that come from other modules."""
    used = {name for curve in CURVES for name in (curve.title, *curve.lines.values()) if name} | {
        part.replace("_", " ") for part in PARTS
    }
    used |= {"running", "stopped", "finished", "failed", "interrupted", "damaged"}
    used |= {"text", "prompt", "chat", "chosen", "rejected"}
    used |= {"cut off: it reached its longest length", "cut off: it repeated itself"}
    for file in WEB.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                used |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    return used


def test_every_word_has_its_chinese() -> None:
    assert words_used() == set(CHINESE)
    for english, chinese in CHINESE.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), english


def test_no_file_here_hides_a_module_of_the_standard_library() -> None:
    import sys

    assert not {file.stem for file in WEB.glob("*.py")} - {"__init__"} & set(sys.stdlib_module_names)
