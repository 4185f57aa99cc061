"""A tokenizer on disk is the old one or the new one, wherever the writing ends."""

import errno
import os
import shutil

from tests.helpers import die_at_file_operation, start_function, texts, write_jsonl

from minimind.cli import main
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.train import train


def save_and_be_killed_everywhere(directory, old, new):
    """Kill a process that replaces one tokenizer by another at each of its operations on files."""
    status, number = -1, 0
    while status != 0:
        number += 1
        assert number < 100
        Tokenizer.load(old).save(directory)
        tokenizer = Tokenizer.load(new)
        child = os.fork()
        if child == 0:
            die_at_file_operation(directory, number)
            tokenizer.save(directory)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert Tokenizer.load(directory).vocab_size in (300, 320)
    assert number > 4
    assert Tokenizer.load(directory).fingerprint == Tokenizer.load(new).fingerprint


def test_a_tokenizer_is_replaced_whole_wherever_it_is_killed(tmp_path):
    for size in (300, 320):
        train(texts(200), size).save(tmp_path / str(size))
    log = tmp_path / "log"
    process = start_function(
        save_and_be_killed_everywhere, tmp_path / "tokenizer", tmp_path / "300", tmp_path / "320", log=log
    )
    process.join(100)
    assert process.exitcode == 0, log.read_text()


def test_a_full_disk_costs_no_tokenizer(tmp_path, tokenizer_directory, monkeypatch, capsys):
    def fill(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = shutil.copytree(tokenizer_directory, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    data = write_jsonl(tmp_path / "texts.jsonl", ({"text": text} for text in texts(50)))
    command = ["tokenizer", "train", "--data", str(data), "--vocab-size", "300"]
    monkeypatch.setattr("minimind.tokenizer.tokenizer.write_json", fill)
    assert main([*command, "--out", str(out), "--force"]) == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert main([*command, "--out", str(tmp_path / "new")]) == 2
    assert not list((tmp_path / "new").iterdir())
    monkeypatch.undo()
    assert main([*command, "--out", str(tmp_path / "new")]) == 0
