import json
from pathlib import Path

import pytest

from minimind.commands.tokenizer import run
from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.measure import bytes_per_token, language


@pytest.fixture
def data(texts, tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    chat = {"conversations": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "hello"}]}
    records = [{"text": text} for text in texts] + [chat]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_train_show_compare(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out, other = str(tmp_path / "one"), str(tmp_path / "two")
    assert run(["train", "--data", str(data), "--out", out, "--vocab-size", "330"]) is None
    shown = capsys.readouterr()
    assert shown.out.startswith("330 tokens, bytes per token: zh ")
    assert shown.err == ""
    assert Tokenizer.load(out).vocab_size == 330

    run(["train", "--data", str(data), "--out", other, "--vocab-size", "300", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["directory"], result["vocab_size"]) == (other, 300)

    run(["show", out, "--text", "你好 <think>", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["reserved"][25] == {"id": 25, "token": "<think>", "special": False}
    assert [token["id"] for token in result["tokens"]] == Tokenizer.load(out).encode("你好 <think>")

    run(["show", out, "--text", "the 龘"])
    shown_text = capsys.readouterr().out
    assert "25 <think>" in shown_text
    assert "│ │龘³" in shown_text

    run(["compare", out, other, "--data", str(data), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert [entry["vocab_size"] for entry in result["tokenizers"]] == [330, 300]
    assert result["shared_tokens"] == 300
    better, worse = (entry["bytes_per_token"]["all"] for entry in result["tokenizers"])
    assert better > worse > 1

    run(["compare", out, other])
    assert "bytes per token, zh" in capsys.readouterr().out


def test_a_small_text_and_bad_lines_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture):
    data = tmp_path / "small.jsonl"
    data.write_text('{"text": "abc"}\n{"text\n', encoding="utf-8")
    run(["train", "--data", str(data), "--out", str(tmp_path / "out"), "--json"])
    shown = capsys.readouterr()
    assert json.loads(shown.out)["vocab_size"] == 294
    assert "1 bad line(s) left out, the first: " in shown.err
    assert "small.jsonl:2: " in shown.err
    assert "enough for 294 tokens only, not 6400" in shown.err


def test_an_existing_tokenizer_is_kept(data: Path, tmp_path: Path):
    arguments = ["train", "--data", str(data), "--out", str(tmp_path / "out"), "--vocab-size"]
    run([*arguments, "300"])
    with pytest.raises(UserError, match="already holds a tokenizer"):
        run([*arguments, "310"])
    assert Tokenizer.load(tmp_path / "out").vocab_size == 300
    run([*arguments, "310", "--force"])
    assert Tokenizer.load(tmp_path / "out").vocab_size == 310


@pytest.mark.parametrize("verb", [[], ["train"], ["show"], ["compare"]])
def test_help_has_an_example(verb: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop:
        run([*verb, "--help"])
    assert stop.value.code == 0
    assert "minimind tokenizer " in capsys.readouterr().out.split("example")[1]


def test_languages_are_told_apart_by_script():
    assert [language(text) for text in ("你好，world", "Say 好 in English, please", "2026")] == ["zh", "en", "en"]


def test_bytes_per_token(tokenizer: Tokenizer):
    text = "the cat 你好"
    assert bytes_per_token(tokenizer, [text]) == {
        name: pytest.approx(14 / len(tokenizer.encode(text))) for name in (language(text), "all")
    }
    assert bytes_per_token(tokenizer, []) == {}
