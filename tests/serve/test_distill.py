"""`minimind data distill` from this package's own server."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.pupil import LESSONS
from tests.serve.conftest import Served

from minimind.cli import main


@pytest.mark.parametrize(("lessons", "words"), [(LESSONS[:2], []), (LESSONS[2:3], ["--think"])])
def test_what_the_pupil_learned(
    lessons: list[dict[str, Any]], words: list[str], served: Served, pupil: Path, tmp_path: Path, capsys: Any
) -> None:
    """Behind a server and in this process it says the same, word for word its lessons, and costs the same."""
    (tmp_path / "q.txt").write_text("".join(f"{lesson['ask']}\n" for lesson in lessons))
    usages = []
    for name, source in (("remote", served.url), ("local", str(pupil))):
        paths = ["--prompts", str(tmp_path / "q.txt"), "--from", source, "--out", str(tmp_path / f"{name}.jsonl")]
        assert main(["data", "distill", *paths, "--temperature", "0", "--device", "cpu", "--json", *words]) == 0
        usages.append(json.loads(capsys.readouterr().out)["usage"])
    assert usages[0] == usages[1]
    assert usages[0]["requests"] == len(lessons)
    texts = [(tmp_path / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("remote", "local")]
    assert texts[0] == texts[1]
    answers = [json.loads(line)["conversations"][1] for line in texts[0].splitlines()]
    said = [{key: lesson[key] for key in ("content", "reasoning_content") if key in lesson} for lesson in lessons]
    assert answers == [{"role": "assistant", **one} for one in said]


def test_a_model_that_the_server_has_not(served: Served, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "q.txt").write_text("the cat\n")
    words = ["--prompts", str(tmp_path / "q.txt"), "--out", str(tmp_path / "out.jsonl"), "--model", "none"]
    assert main(["data", "distill", *words, "--from", served.url]) == 2
    assert "answers with status 404" in capsys.readouterr().err
