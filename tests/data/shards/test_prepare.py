import errno
import json
import operator
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minimind.data.shards import cache as cache_module
from minimind.data.shards import prepare as module
from minimind.data.shards.holdout import holdout
from minimind.data.shards.prepare import prepare
from minimind.data.shards.shard_set import ArrayFile
from minimind.data.shards.workers import run_in_order
from minimind.data.sources.documents import read_documents
from minimind.data.sources.files import read_records
from minimind.errors import UserError
from minimind.tokenizer.train import train

WORDS = ["fox", "dog", "月光", "quick", "故乡", "x = 1", "lazy,", "地上。", "\n", "jumps"]


def texts(count, seed=0, longest=60):
    random = np.random.default_rng(seed)
    return [{"text": "t" + " ".join(random.choice(WORDS, random.integers(1, longest)))} for _ in range(count)]


def chats(count, seed=0):
    return [
        {
            "conversations": [
                {"role": "user", "content": record["text"]},
                {"role": "assistant", "content": record["text"][::-1]},
            ]
        }
        for record in texts(count, seed)
    ]


def write(path, records):
    """A jsonl file that was last changed a while ago, so that its hash may be remembered."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- what comes out ---


def test_texts(tmp_path, tokenizer):
    records = texts(300)
    first, second = write(tmp_path / "a.jsonl", records[:200]), write(tmp_path / "b.jsonl", records[200:])
    data = prepare([first, second], tokenizer, cache=tmp_path / "cache")
    assert (data.kind, len(data), data.vocab_size) == ("pretrain", 300, tokenizer.vocab_size)
    documents = [*read_documents(first), *read_documents(second)]
    for index, document in enumerate(documents):
        ids, mask = data.read(index)
        assert ids.tolist() == [tokenizer.bos_id, *tokenizer.encode(document.text), tokenizer.eos_id]
        assert mask.all()
        assert data.bytes[index] == len(document.text.encode())
        assert data.hashes[index] == document.hash
        assert data.provenance(index) == (document.file, document.line)
    counts = data.meta["counts"]
    assert counts["tokens"] == counts["trained_tokens"] == data.num_tokens == data.lengths.sum()
    assert counts["bytes"] == data.bytes.sum()
    assert data.meta["sources"][1]["path"] == str(second)


def test_conversations(tmp_path, tokenizer):
    records = [*chats(50), {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "字"}]}]
    data = prepare([write(tmp_path / "a.jsonl", records)], tokenizer, cache=tmp_path / "cache")
    assert (data.kind, len(data)) == ("chat", 51)
    for index, record in enumerate(records):
        messages = record.get("conversations") or record["messages"]
        ids, mask = data.read(index)
        assert (ids.tolist(), mask.tolist()) == tokenizer.encode_chat(messages)
        assert data.bytes[index] == len(messages[-1]["content"].lstrip("\n").encode())
    trained = sum(int(data.read(index)[1].sum()) for index in range(len(data)))
    assert data.meta["counts"]["trained_tokens"] == trained < data.num_tokens


def test_train_on_the_last_turn_only(tmp_path, tokenizer):
    turns = [{"role": role, "content": role} for role in ("user", "assistant") * 2]
    file = write(tmp_path / "a.jsonl", [{"conversations": turns}])
    every = prepare([file], tokenizer, cache=tmp_path / "cache")
    last = prepare([file], tokenizer, cache=tmp_path / "cache", train_on="last")
    assert every.fingerprint != last.fingerprint
    assert (int(every.bytes[0]), int(last.bytes[0])) == (18, 9)
    assert last.read(0)[1].sum() * 2 == every.read(0)[1].sum()


def pairs(count, seed=0):
    """Preferences whose answers differ in length; every third is about a longer conversation."""
    records = []
    for number, (question, chosen, rejected) in enumerate(zip(*(texts(count, seed + n) for n in range(3)))):
        said = [{"role": "user", "content": question["text"]}]
        if number % 3 == 0:
            said = [*said, {"role": "assistant", "content": "what?"}, *said]
        answers = {"chosen": "good " + chosen["text"], "rejected": "bad " + rejected["text"]}
        records.append({side: [*said, {"role": "assistant", "content": words}] for side, words in answers.items()})
    return records


@pytest.mark.parametrize("kind", ["auto", "preference"])
def test_a_preference_is_two_documents_side_by_side(tmp_path, tokenizer, kind):
    records = pairs(30)
    data = prepare([write(tmp_path / "a.jsonl", records)], tokenizer, kind, tmp_path / "cache", shard_tokens=700)
    assert (data.kind, len(data), data.group, data.masked) == ("preference", 60, 2, True)
    assert len(data.meta["shards"]) > 1
    for line, record in enumerate(records, start=1):
        both = (2 * line - 2, 2 * line - 1)
        assert [data.provenance(index)[1] for index in both] == [line, line]
        assert data.hashes[both[0]] == data.hashes[both[1]], "so that a pair is held out or trained on together"
        for index, side in zip(both, ("chosen", "rejected")):
            ids, mask = data.read(index)
            assert (ids.tolist(), mask.tolist()) == tokenizer.encode_chat(record[side])
            answers = [said["content"] for said in record[side] if said["role"] == "assistant"]
            assert data.bytes[index] == sum(len(answer.encode()) for answer in answers)
    assert len(np.unique(data.hashes)) == 30
    held_out = holdout(data.hashes, 0.3, seed=0)
    assert 0 < held_out.sum() < 60
    assert (held_out[::2] == held_out[1::2]).all()


def test_preferences_that_prefer_nothing_are_left_out(tmp_path, tokenizer):
    (good, first, *_), question = pairs(4), {"role": "user", "content": "q"}
    same = dict.fromkeys(("chosen", "rejected"), first["chosen"])
    other_question = {**first, "rejected": [question, first["rejected"][-1]]}
    no_answer = {side: [*first["chosen"], {"role": "user", "content": side}] for side in ("chosen", "rejected")}
    thought = {"role": "assistant", "content": "", "reasoning_content": "hm"}
    only_thinking = {**first, "rejected": [*first["rejected"][:-1], thought]}
    file = write(tmp_path / "a.jsonl", [same, good, other_question, no_answer, only_thinking, {"text": "t"}])
    data = prepare([file], tokenizer, "preference", tmp_path / "cache", train_thinking=False)
    assert [data.provenance(index)[1] for index in range(len(data))] == [2, 2]
    assert data.report["nothing_to_train_on"] == 1
    assert [(bad["line"], bad["why"].split(";")[0]) for bad in data.report["first_bad"]] == [
        (1, "chosen and rejected are the same"),
        (3, "chosen and rejected answer different conversations"),
        (4, "chosen and rejected must both end with an answer"),
        (6, "another kind of data: this is pretrain, the rest is preference"),
    ]


@pytest.mark.parametrize(
    ("records", "number"),
    [(texts(400), 3), (chats(150), 2), (pairs(80), 2)],
    ids=["texts", "conversations", "preferences"],
)
def test_the_number_of_workers_changes_nothing(tmp_path, tokenizer, monkeypatch, records, number):
    monkeypatch.setattr(module, "BATCH_BYTES", 5000)
    files = [write(tmp_path / "a.jsonl", records), write(tmp_path / "b.jsonl", [*records[:20], {"text": 3}])]
    made = []
    for workers in (1, number):
        data = prepare(files, tokenizer, cache=tmp_path / f"cache{workers}", workers=workers, shard_tokens=3000)
        made.append((data.directory.name, contents(data.directory)))
    assert len(made[0][1]) > 4
    assert made[0] == made[1]


def test_batches_and_shards_change_nothing_but_the_layout(tmp_path, tokenizer, monkeypatch):
    file = write(tmp_path / "a.jsonl", texts(100))
    whole = prepare([file], tokenizer, cache=tmp_path / "cache")
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    cut = prepare([file], tokenizer, cache=tmp_path / "cache", shard_tokens=500)
    assert len(cut.meta["shards"]) > len(whole.meta["shards"]) == 1
    assert cut.fingerprint == whole.fingerprint
    assert [cut.read(i)[0].tolist() for i in range(100)] == [whole.read(i)[0].tolist() for i in range(100)]


# --- what is left out ---


def test_bad_lines_are_counted_and_named(tmp_path, tokenizer, caplog):
    file = write(tmp_path / "a.jsonl", [*texts(3), {"text": 3}, *[{"x": number} for number in range(30)]])
    data = prepare([file], tokenizer, cache=tmp_path / "cache")
    assert len(data) == 3
    assert data.report["bad_lines"] == 31
    assert data.report["reasons"] == {"unknown schema": 30, "wrong type": 1}
    assert [bad["line"] for bad in data.report["first_bad"]] == list(range(4, 24))
    assert "31 bad lines" in caplog.text
    assert f"{file}:4: wrong type: text is a number" in caplog.text
    caplog.clear()
    prepare([file], tokenizer, cache=tmp_path / "cache")  # from the cache: told again
    assert "31 bad lines" in caplog.text


def test_conversations_with_nothing_to_train_on(tmp_path, tokenizer, caplog):
    user = {"role": "user", "content": "q"}
    prompt = {"conversations": [user, {"role": "assistant", "content": ""}]}
    earlier = {"conversations": [user, {"role": "assistant", "content": "a"}, *prompt["conversations"]]}
    file = write(tmp_path / "a.jsonl", [prompt, earlier, *chats(2), {"conversations": [user], "gt": "a"}])
    data = prepare([file], tokenizer, cache=tmp_path / "cache")
    assert data.report["nothing_to_train_on"] == 2
    assert [data.provenance(index)[1] for index in range(len(data))] == [2, 3, 4]
    assert "2 conversations with nothing to train on" in caplog.text


def test_what_cannot_be_prepared(tmp_path, tokenizer):
    cache = tmp_path / "cache"
    text, chat = write(tmp_path / "text.jsonl", texts(2)), write(tmp_path / "chat.jsonl", chats(2))
    pair = {side: chats(1)[0]["conversations"] for side in ("chosen", "rejected")}
    preference = write(tmp_path / "preference.jsonl", [pair])
    bad = write(tmp_path / "bad.jsonl", [{"x": 1}])
    prompts = write(tmp_path / "prompts.jsonl", [{"conversations": [{"role": "user", "content": "q"}], "gt": "a"}])
    for files, kind, message in [
        ([], "auto", "no data files"),
        ([tmp_path / "none.jsonl"], "auto", "does not exist"),
        ([text, chat], "auto", "text.jsonl holds texts but .*chat.jsonl holds conversations"),
        ([preference], "auto", "no document is left .*preference.jsonl:1: chosen and rejected are the same"),
        ([chat, preference], "auto", "chat.jsonl holds conversations but .*preference.jsonl holds preferences"),
        ([text], "novel", "unknown kind 'novel'"),
        ([bad], "auto", "no usable line"),
        ([bad], "pretrain", "no document is left .*bad.jsonl:1: unknown schema"),
        ([text], "chat", "no document is left .*another kind of data"),
        ([prompts], "chat", "nothing to train on"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(files, tokenizer, kind, cache)
    assert [path for path in cache.iterdir() if path.is_dir() and path.name != "sources"] == []


def test_a_kind_by_name_leaves_the_other_out(tmp_path, tokenizer):
    files = [write(tmp_path / "text.jsonl", texts(2)), write(tmp_path / "chat.jsonl", chats(3))]
    assert len(prepare(files, tokenizer, "chat", tmp_path / "cache")) == 3
    assert len(prepare(files, tokenizer, "pretrain", tmp_path / "cache")) == 2


# --- the cache ---


@pytest.fixture
def no_work(monkeypatch):
    """Fails the test when a source is read or tokenized."""

    def refuse(*arguments):
        raise AssertionError("work was done")

    def start():
        monkeypatch.setattr(module, "_write", refuse)
        monkeypatch.setattr(module, "read_records", refuse)

    return start


def test_the_same_again_does_no_work(tmp_path, tokenizer, no_work):
    file = write(tmp_path / "a.jsonl", texts(20))
    first = prepare([file], tokenizer, "pretrain", tmp_path / "cache")
    no_work()
    again = prepare([file], tokenizer, "pretrain", tmp_path / "cache")
    assert again.directory == first.directory
    assert again.fingerprint == first.fingerprint


def test_an_unchanged_file_is_hashed_once(tmp_path):
    file = write(tmp_path / "a.jsonl", texts(20))
    read = []
    first = cache_module.source_hash(file, tmp_path, read.append)
    assert sum(read) == file.stat().st_size
    assert cache_module.source_hash(file, tmp_path, read.append) == first
    assert sum(read) == file.stat().st_size
    file.write_text(file.read_text().replace("fox", "FOX"))
    assert cache_module.source_hash(file, tmp_path, read.append) != first
    # Written a moment ago: a change within the same tick of the clock would not show, so nothing is remembered.
    read.clear()
    cache_module.source_hash(file, tmp_path, read.append)
    assert read


def test_the_same_content_under_another_name(tmp_path, tokenizer, monkeypatch):
    file = write(tmp_path / "a.jsonl", texts(20))
    first = prepare([file], tokenizer, cache=tmp_path / "cache")
    moved = file.rename(tmp_path / "b.jsonl")
    monkeypatch.setattr(module, "_write", None)
    again = prepare([moved], tokenizer, cache=tmp_path / "cache")
    assert again.directory == first.directory
    assert again.provenance(4) == (str(moved), 5)


def test_a_difference_that_matters_is_seen(tmp_path, tokenizer):
    cache = tmp_path / "cache"
    file = write(tmp_path / "a.jsonl", texts(20))
    names = {prepare([file], tokenizer, cache=cache).directory.name}
    names.add(prepare([file], train(WORDS * 9, 300), cache=cache).directory.name)
    names.add(prepare([file, file], tokenizer, cache=cache).directory.name)
    file.write_text(file.read_text().replace(': "t', ': "T'))  # same size
    data = prepare([file], tokenizer, cache=cache)
    assert len(names | {data.directory.name}) == 4
    assert tokenizer.decode(data.read(0)[0].tolist()).startswith("T")


def test_a_damaged_data_set_is_made_anew(tmp_path, tokenizer):
    file = write(tmp_path / "a.jsonl", texts(20))
    data = prepare([file], tokenizer, cache=tmp_path / "cache")
    before = contents(data.directory)
    (data.directory / "00000.ids.npy").write_bytes(b"")
    assert contents(prepare([file], tokenizer, cache=tmp_path / "cache").directory) == before


def test_one_flipped_bit_is_enough(tmp_path, tokenizer, caplog):
    file = write(tmp_path / "a.jsonl", texts(20))
    data = prepare([file], tokenizer, cache=tmp_path / "cache")
    before = contents(data.directory)
    for path in sorted(data.directory.iterdir()):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        caplog.clear()
        assert contents(prepare([file], tokenizer, cache=tmp_path / "cache").directory) == before
        assert "are damaged" in caplog.text, path.name


def test_two_at_the_same_time(tmp_path, tokenizer, monkeypatch):
    file = write(tmp_path / "a.jsonl", texts(20))
    finish = module.ShardWriter.finish

    def while_another_finishes(writer, extra):
        monkeypatch.setattr(module.ShardWriter, "finish", finish)
        prepare([file], tokenizer, cache=tmp_path / "cache")
        finish(writer, extra)

    monkeypatch.setattr(module.ShardWriter, "finish", while_another_finishes)
    assert len(prepare([file], tokenizer, cache=tmp_path / "cache")) == 20
    assert not list((tmp_path / "cache").glob("partial*"))


def test_a_file_that_changes_meanwhile(tmp_path, tokenizer, monkeypatch):
    file = write(tmp_path / "a.jsonl", texts(20))

    def read_and_append(path, on_read, encoding):
        yield from read_records(path, on_read, encoding)
        with path.open("a") as more:
            more.write("\n")

    monkeypatch.setattr(module, "read_records", read_and_append)
    with pytest.raises(UserError, match="changed while it was prepared"):
        prepare([file], tokenizer, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/meta.json"))


# --- accidents ---


def test_a_full_disk(tmp_path, tokenizer, monkeypatch):
    file = write(tmp_path / "a.jsonl", texts(200))
    append = ArrayFile.append

    def full(self, values):
        if self.length > 500:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, values)

    monkeypatch.setattr(module, "BATCH_BYTES", 5000)
    with monkeypatch.context() as patch:
        patch.setattr(ArrayFile, "append", full)
        with pytest.raises(UserError, match=r"disk of .* is full"):
            prepare([file], tokenizer, cache=tmp_path / "cache")
        assert not list((tmp_path / "cache").glob("partial*"))
    assert len(prepare([file], tokenizer, cache=tmp_path / "cache")) == 200


def test_an_interrupt_leaves_nothing_half_made(tmp_path, tokenizer, monkeypatch):
    def interrupt(self, extra):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.ShardWriter, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare([write(tmp_path / "a.jsonl", texts(20))], tokenizer, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["sources"]


KILLED = """
import sys, time
from pathlib import Path
from minimind.data.shards import prepare as module
from minimind.tokenizer import Tokenizer

append = module.ShardWriter.append

def slowly(self, *arguments, **columns):
    append(self, *arguments, **columns)
    for file in self._files.values():
        file.file.flush()
    time.sleep(0.3)

if __name__ == "__main__":
    module.BATCH_BYTES = 5000
    module.ShardWriter.append = slowly
    file, tokenizer, cache = sys.argv[1:]
    module.prepare([Path(file)], Tokenizer.load(tokenizer), cache=Path(cache), workers=2)
"""


def is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_killed_in_the_middle(tmp_path, tokenizer):
    file = write(tmp_path / "a.jsonl", texts(300))
    tokenizer.save(tmp_path / "tokenizer")
    cache = tmp_path / "cache"
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), str(file), str(tmp_path / "tokenizer"), str(cache)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 1000 for path in cache.glob("partial*/*.ids.npy")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    ]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(cache.glob("partial*"))
    assert len(workers) >= 2
    while any(map(is_running, workers)):  # nobody is left to end them but themselves
        assert time.monotonic() < deadline
        time.sleep(0.05)

    data = prepare([file], tokenizer, cache=cache)
    assert not list(cache.glob("partial*"))
    assert contents(data.directory) == contents(prepare([file], tokenizer, cache=tmp_path / "other").directory)


def test_a_worker_that_dies():
    with pytest.raises(UserError, match="worker process died"):
        list(run_in_order(partial(partial, os._exit), [1], 1))


def test_results_are_in_order_and_few_batches_are_under_way():
    taken = []
    numbers = (taken.append(number) or number for number in range(30))
    for done, result in enumerate(run_in_order(partial(partial, operator.mul, 2), numbers, 2)):
        assert result == 2 * done
        assert len(taken) <= done + 4


PEAK = r"""
import re, sys
from pathlib import Path
from minimind.data.shards.holdout import holdout
from minimind.data.shards.prepare import prepare
from minimind.tokenizer import Tokenizer

file, tokenizer, cache = sys.argv[1:]
prepare([Path(file)], Tokenizer.load(tokenizer), cache=Path(cache), workers=1)
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer")
    line = json.dumps({"text": texts(1, longest=400)[0]["text"] + " fox" * 500}) + "\n"
    peaks = []
    for size in (2, 10):
        file = tmp_path / f"{size}.jsonl"
        file.write_text(line * (size * 2**20 // len(line)))
        command = [sys.executable, "-c", PEAK, str(file), str(tmp_path / "tokenizer"), str(tmp_path / "cache")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 2 * 1024  # KiB; the file is 8 MiB larger


def test_the_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMIND_CACHE", str(tmp_path))
    assert cache_module.default_cache() == tmp_path / "shards"
    monkeypatch.delenv("MINIMIND_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_module.default_cache() == tmp_path / ".cache/minimind/shards"


def test_a_cache_that_cannot_be(tmp_path, tokenizer):
    file = write(tmp_path / "a.jsonl", texts(2))
    with pytest.raises(UserError, match="cannot be made"):
        prepare([file], tokenizer, cache=file / "cache")
