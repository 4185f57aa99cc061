import json
from pathlib import Path

import pytest

from minimind.cli import main
from minimind.data.sources.show import TokenRun, number_of_segments, pick, sample, sequences, token_runs

CHAT = [{"role": "user", "content": "hi 字"}, {"role": "assistant", "content": "lo 月"}]
RECORDS = [{"text": f"text {number}"} for number in range(10)]


@pytest.fixture
def tokenizer_directory(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def write(path, records):
    lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(capsys, *argv):
    code = main(["data", *map(str, argv)])
    return code, *capsys.readouterr()


# --- prepare ---


def test_prepare(tmp_path, tokenizer_directory, capsys):
    file = write(tmp_path / "a.jsonl", [*RECORDS, "oops"])
    argv = ["prepare", file, "--tokenizer", tokenizer_directory, "--cache", tmp_path / "cache"]
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert "10 documents" in out
    assert str(tmp_path / "cache") in out
    code, out, _ = run(capsys, *argv, "--json", "--kind", "pretrain")
    result = json.loads(out)
    assert (code, result["kind"], result["counts"]["documents"], result["report"]["bad_lines"]) == (
        0,
        "pretrain",
        10,
        1,
    )
    assert result["directory"].startswith(str(tmp_path / "cache"))


def test_the_cache_of_the_environment(tmp_path, tokenizer_directory, capsys, monkeypatch):
    monkeypatch.setenv("MINIMIND_CACHE", str(tmp_path / "elsewhere"))
    code, out, _ = run(capsys, "prepare", write(tmp_path / "a.jsonl", RECORDS), "--tokenizer", tokenizer_directory)
    assert code == 0
    assert str(tmp_path / "elsewhere/shards") in out


@pytest.mark.parametrize("verb", ["prepare", "show", "check"])
def test_mistakes_are_one_sentence(tmp_path, tokenizer_directory, capsys, verb):
    file, folder = write(tmp_path / "a.jsonl", RECORDS), tmp_path / "empty"
    folder.mkdir()
    for argv, message in [
        ([tmp_path / "none.jsonl", "--tokenizer", tokenizer_directory], "does not exist"),
        ([folder, "--tokenizer", tokenizer_directory], "no file that can be read"),
        ([file, "--tokenizer", tmp_path / "none"], "tokenizer.json does not exist"),
        ([file, "--tokenizer", tokenizer_directory, "--frobnicate"], "--frobnicate"),
        ([], "FILE"),
    ]:
        code, _, err = run(capsys, verb, *argv)
        assert code == 2
        assert message in err
        assert len(err.strip().splitlines()) == 1


# --- show ---


def test_show_marks_what_is_trained_on(tmp_path, tokenizer_directory, capsys):
    file = write(tmp_path / "a.jsonl", [{"conversations": CHAT}])
    code, out, _ = run(capsys, "show", file, "--tokenizer", tokenizer_directory, "--seq-len", "8")
    assert code == 0
    assert f"{file}:1 · chat" in out
    assert "segments in sequences of 8" in out
    assert "«lo 月<|im_end|>»" in out
    assert out.count("«") == 1
    assert "<|im_start|>user\nhi 字<|im_end|>" in out


def test_show_in_colour(tmp_path, tokenizer_directory, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = write(tmp_path / "a.jsonl", [{"conversations": CHAT}])
    _, out, _ = run(capsys, "show", file, "--tokenizer", tokenizer_directory)
    assert "\x1b[32mlo 月\x1b[0m\x1b[7;32m<|im_end|>\x1b[0m" in out  # green, and green reversed
    assert "\x1b[2;7m<|im_start|>\x1b[0m\x1b[2muser\x1b[0m\n\x1b[2mhi 字\x1b[0m" in out
    assert "«" not in out


def test_show_json(tmp_path, tokenizer_directory, capsys, tokenizer):
    preference = {"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "no"}]}
    prompt = {"conversations": CHAT[:1], "gt": "x"}
    file = write(tmp_path / "a.jsonl", [{"conversations": CHAT}, preference, prompt, RECORDS[0]])
    shown = []
    for index in range(4):
        code, out, _ = run(capsys, "show", file, "--tokenizer", tokenizer_directory, "--index", index, "--json")
        assert code == 0
        shown += json.loads(out)
    assert [[part["name"] for part in document["sequences"]] for document in shown] == [
        ["chat"],
        ["chosen", "rejected"],
        ["prompt"],
        ["text"],
    ]
    ids, mask = tokenizer.encode_chat(CHAT)
    sequence = shown[0]["sequences"][0]
    assert (sequence["tokens"], sequence["trained_tokens"]) == (len(ids), sum(mask))
    assert "".join(part["text"] for part in sequence["segments"]) == tokenizer.render(CHAT)
    assert shown[2]["sequences"][0]["trained_tokens"] == 0
    text = shown[3]["sequences"][0]
    assert text["trained_tokens"] == text["tokens"] == len(tokenizer.encode("text 0")) + 2


def test_control_strings_that_somebody_typed_are_text(tokenizer):
    messages = [{"role": "user", "content": "<|im_end|>"}, CHAT[1]]
    parts = token_runs(*tokenizer.encode_chat(messages), tokenizer)
    assert TokenRun("<|im_end|>", trained=False, control=True) in parts
    assert TokenRun("user\n<|im_end|>", trained=False, control=False) in parts


def test_pick_counts_good_documents_over_all_files(tmp_path, tokenizer_directory, capsys):
    first = write(tmp_path / "a.jsonl", [RECORDS[0], "oops", RECORDS[1]])
    second = write(tmp_path / "b.jsonl", RECORDS[2:4])
    assert [pick([first, second], index).text for index in range(4)] == [f"text {index}" for index in range(4)]
    argv = ["show", first, second, "--tokenizer", tokenizer_directory, "--index"]
    for index, why in (("4", "there are only 4 documents"), ("-1", "--index: expected a whole number from 0")):
        code, _, err = run(capsys, *argv, index)
        assert code == 2
        assert why in err


def test_sample_is_even_in_order_and_repeatable(tmp_path, tokenizer_directory, capsys):
    files = [Path(write(tmp_path / "a.jsonl", RECORDS[:6])), Path(write(tmp_path / "b.jsonl", RECORDS[6:]))]
    counts = dict.fromkeys(range(10), 0)
    for seed in range(1000):
        numbers = [int(document.text[-1]) for document in sample(files, 3, seed)]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 3
        for number in numbers:
            counts[number] += 1
    assert all(230 < count < 370 for count in counts.values())  # 300 expected, five standard deviations
    assert len(sample(files, 50, 0)) == 10
    argv = ["show", *files, "--tokenizer", tokenizer_directory, "--sample", "2", "--json"]
    outputs = [run(capsys, *argv, "--seed", seed)[1] for seed in (1, 1, 2)]
    assert outputs[0] == outputs[1] != outputs[2]


def test_pieces_of_a_document():
    # n tokens have n - 1 (input, target) pairs
    assert [number_of_segments(length, 4) for length in (1, 2, 5, 6, 9, 10)] == [1, 1, 1, 2, 2, 3]


def test_sequences_are_what_is_prepared(tmp_path, tokenizer):
    file = write(tmp_path / "a.jsonl", [{"text": "a 字"}])
    ((name, ids, mask),) = sequences(pick([file], 0), tokenizer)
    assert (name, ids.tolist()) == ("text", [tokenizer.bos_id, *tokenizer.encode("a 字"), tokenizer.eos_id])
    assert mask.all()


# --- check ---


def test_check_good_data(tmp_path, tokenizer_directory, capsys):
    file = write(tmp_path / "a.jsonl", [*RECORDS, {"conversations": CHAT}, {"text": "long " * 50}])
    code, out, _ = run(capsys, "check", file)
    assert code == 0
    assert "12 documents (11 text, 1 chat), 0 bad lines" in out
    code, out, _ = run(capsys, "check", file, "--tokenizer", tokenizer_directory, "--context", "40")
    assert code == 0
    assert "1 documents are longer than 40 tokens" in out


def test_check_names_every_bad_line(tmp_path, capsys):
    bad = ["{", '{"text": 1}', json.dumps({"conversations": CHAT[::-1]})]
    unanswered = {"conversations": [CHAT[0], {"role": "assistant", "content": " "}]}
    first = write(tmp_path / "a.jsonl", [RECORDS[0], bad[0], RECORDS[0], "", bad[1], unanswered])
    second = write(tmp_path / "b.jsonl", [bad[2], {**unanswered, "gt": "4"}])
    code, out, _ = run(capsys, "check", first, second)
    assert code == 1
    lines = out.splitlines()
    assert lines[0].startswith(f"{first}:2: not JSON")
    assert lines[1] == f"{first}:5: wrong type: text is a number, expected text"
    assert lines[2].startswith(f"{second}:1: the conversation begins with the assistant")
    code, out, _ = run(capsys, "check", first, second, "--json")
    result = json.loads(out)
    assert code == 1
    assert {key: result[key] for key in ("documents", "bad_lines", "duplicates", "empty_answers")} == {
        "documents": 4,
        "bad_lines": 3,
        "duplicates": 1,
        "empty_answers": 1,
    }
    assert result["schemas"] == {"text": 2, "rl": 2}
    assert [(line["file"], line["line"]) for line in result["bad"]] == [(first, 2), (first, 5), (second, 1)]


def test_check_goes_on_after_a_damaged_file(tmp_path, capsys):
    (tmp_path / "a.jsonl.gz").write_bytes(b"no archive")
    code, out, _ = run(capsys, "check", tmp_path / "a.jsonl.gz", write(tmp_path / "b.jsonl", RECORDS))
    assert code == 1
    assert "a.jsonl.gz is damaged" in out
    assert "10 documents (10 text), 1 bad lines" in out


def test_check_context_needs_a_tokenizer(tmp_path, capsys):
    code, _, err = run(capsys, "check", write(tmp_path / "a.jsonl", RECORDS), "--context", "100")
    assert code == 2
    assert "add --tokenizer" in err


# --- the rest ---


def test_world(tmp_path, capsys):
    sizes = ["--pretrain-bytes", "3000", "--sft", "5", "--preference", "2", "--rl", "2", "--per-skill", "1"]
    outputs = []
    for name in ("a", "b"):
        code, out, _ = run(capsys, "world", "--out", tmp_path / name, "--seed", "3", *sizes)
        assert code == 0
        outputs.append([Path(path).read_text(encoding="utf-8") for path in out.split()])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 9
    files = [tmp_path / "a" / f"{name}.jsonl" for name in ("pretrain", "sft", "preference", "rl")]
    code, out, _ = run(capsys, "check", *files)
    assert code == 0


def test_help_has_an_example_for_every_verb(capsys):
    for verb in ([], ["prepare"], ["show"], ["check"], ["world"], ["get"]):
        code, out, _ = run(capsys, *verb, "--help")
        assert code == 0
        assert "example" in out
        assert f"minimind data {' '.join(verb)}".strip() in out
