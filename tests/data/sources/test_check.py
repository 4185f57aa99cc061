"""What `data check` counts: nothing is lost without a number."""

import json
import re

import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.data.shards.prepare import prepare
from minimind.data.sources.check import Findings, check
from minimind.data.sources.documents import Document, read_documents
from minimind.data.sources.show import sequences
from minimind.tokenizer import Tokenizer, parse_assistant
from minimind.tokenizer.reserved import RESERVED


def found(tmp_path, *records, tokenizer=None) -> Findings:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return check([path], print, tokenizer)


def talk(*answers: str | dict) -> dict:
    messages = []
    for answer in answers:
        answer = {"content": answer} if isinstance(answer, str) else answer
        messages += [{"role": "user", "content": "q"}, {"role": "assistant", **answer}]
    return {"messages": messages}


def test_keys_that_are_not_read(tmp_path):
    findings = found(
        tmp_path, {"text": "a", "id": 1}, {"text": "b", "id": 2, "url": "x"}, talk({"content": "a", "name": "n"})
    )
    assert findings.unread_keys == {"id": 2, "url": 1, "message.name": 1}


def test_answers_that_are_not_learned(tmp_path):
    assert found(tmp_path, talk({"content": "a", "weight": 0}, "b"), talk("c")).not_trained_on == 1


def test_thinking_and_what_is_not(tmp_path):
    findings = found(
        tmp_path,
        talk("\n<think>\na\n</think>\n\nb"),
        talk("a</think>b", "\n\nc", {"content": "d", "reasoning_content": "\ne"}),
    )
    assert findings.thinking_as_text == 1
    assert findings.stripped == 5 + 2 + 1  # around the thinking, before c, before e


def test_control_strings_in_texts(tmp_path):
    findings = found(tmp_path, {"text": "a<|endoftext|>b<|endoftext|>"}, {"text": "<|im_start|>"})
    assert findings.control_strings == {"<|endoftext|>": 2, "<|im_start|>": 1}


def test_a_tokenizer_that_cannot_spell(tmp_path, tokenizer):
    records = {"text": "abc"}, {"text": "abÇ"}, talk("ab"), talk("Ç")
    assert found(tmp_path, *records, tokenizer=tokenizer).changed_by_tokenizer == 0
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.normalizer = tokenizers.normalizers.Lowercase()
    lower = Tokenizer(backend, tokenizer.config, tokenizer.chat_template)
    assert found(tmp_path, *records, tokenizer=lower).changed_by_tokenizer == 2


pieces = st.sampled_from(
    [
        *RESERVED,
        "\n",
        "\r",
        "\t",
        " ",
        "  ",
        "\u3000",
        "\u2028",
        "\u0085",
        "\u200b",
        "\ufeff",
        "\0",
        "\ufdd0",
        "}{",
        '"',
        "\\",
        "[",
        "你好",
        "🙂",
        "a",
        "Ab",
    ]
)
said = st.lists(pieces | st.text(max_size=3), max_size=6).map(
    lambda parts: "".join(parts).encode("utf-8", "ignore").decode()
)
arguments = st.dictionaries(said, said | st.integers() | st.none() | st.lists(said, max_size=2), max_size=2)
calls = st.lists(st.fixed_dictionaries({"name": said, "arguments": arguments}), max_size=2)
answers = st.fixed_dictionaries(
    {"content": said.map(lambda text: text + "."), "calls": calls}, optional={"reasoning_content": said}
)
conversations = st.lists(st.tuples(said, answers, st.lists(said, max_size=2)), min_size=1, max_size=3)


@settings(max_examples=80, deadline=None)
@given(conversations, said, st.sampled_from(["object", "text", "openai"]), st.booleans())
def test_no_character_of_a_conversation_is_lost(tmp_path_factory, tokenizer, turns, system, form, ascii):
    """Read, rendered, tokenized and taken apart again, a conversation says what it said, or `check` counts it."""
    messages, expected = [{"role": "system", "content": system}], []
    for question, answer, results in turns:
        if messages[-1]["role"] != "tool":
            messages.append({"role": "user", "content": question})
        plain = answer["calls"]
        asked = {
            "object": plain,
            "text": json.dumps(plain, ensure_ascii=ascii),
            "openai": [
                {"id": "1", "type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}}
                for call in plain
            ],
        }[form]
        more = {"reasoning_content": answer["reasoning_content"]} if "reasoning_content" in answer else {}
        messages.append({"role": "assistant", "content": answer["content"], "tool_calls": asked, **more})
        messages += [{"role": "tool", "content": result} for result in results]
        expected.append((answer["content"], answer.get("reasoning_content"), plain))
    if messages[-1]["role"] == "tool":
        messages.append({"role": "assistant", "content": "end"})
        expected.append(("end", None, []))
    path = tmp_path_factory.mktemp("x") / "a.jsonl"
    path.write_text(json.dumps({"messages": messages}, ensure_ascii=ascii) + "\n", encoding="utf-8", newline="")

    (document,) = read_documents(path)
    assert isinstance(document, Document), document
    ((_, ids, mask),) = sequences(document, tokenizer)
    text = tokenizer.decode(ids.tolist(), skip_special=False)
    assert text == tokenizer.render(document.messages)
    for message in messages:
        if message["role"] != "assistant":
            assert message["content"] in text
    findings = check([path], print, tokenizer)
    assert findings.bad_lines == findings.changed_by_tokenizer == 0
    assert not findings.unread_keys
    opened, ends = tokenizer.reserved["<think>"], tokenizer.reserved["<|im_end|>"]
    places = [place for place, index in enumerate(ids) if index == opened]
    stripped = 0
    for place, (content, reasoning, called) in zip(places, expected, strict=True):
        end = place + ids[place:].tolist().index(ends)
        stripped += len(content) + len(reasoning or "")
        if reasoning is None and (block := re.fullmatch(r"\s*<think>(.*?)</think>(.*)", content, re.DOTALL)):
            reasoning, content = block.groups()
            stripped -= len("<think></think>")
        parsed = parse_assistant(ids[place:end].tolist(), tokenizer)
        assert parsed["tool_calls"] == called
        assert parsed["content"] == content.lstrip("\n")
        assert parsed["reasoning_content"] == (reasoning or "").strip("\n")
        stripped -= len(parsed["content"]) + len(parsed["reasoning_content"])
    assert stripped == findings.stripped
    assert mask.sum() >= len(expected)


def test_words_that_are_too_long_for_the_tokenizer_are_counted(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("x" * 300_000 + "\n\n" + "the cat " * 40_000)
    findings = check([tmp_path / "a.txt"], print, tokenizer)
    assert (findings.documents, findings.cut_words, findings.changed_by_tokenizer) == (2, 2, 0)
    report = prepare([tmp_path / "a.txt"], tokenizer, cache=tmp_path / "cache").report
    assert report["cut_words"] == 2
