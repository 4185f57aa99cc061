"""Files whole or not at all, JSON or a sentence, and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from minimind.errors import UserError
from minimind.util.files import whole_directory, whole_file, write_json
from minimind.util.json_files import read_json, read_json_lines
from minimind.util.progress import progress
from minimind.util.suggest import did_you_mean, nearest


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with whole_file(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert (path.read_text(), names(path.parent)) == ("whole", ["file"])
    with pytest.raises(TypeError), whole_file(path) as partial:
        partial.write_text(b"no text")  # type: ignore[arg-type]
    assert (path.read_text(), names(path.parent)) == ("whole", ["file"])


def test_a_directory_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with whole_directory(tmp_path / "out") as partial:
            (partial / text).write_text(text)
    with pytest.raises(TypeError), whole_directory(tmp_path / "out") as partial:
        (partial / "third").write_text(b"no text")  # type: ignore[arg-type]
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], ["second"])


def test_json_or_a_sentence(tmp_path: Path) -> None:
    assert read_json(write_json(tmp_path / "a.json", {"name": "小"})) == {"name": "小"}
    with pytest.raises(UserError, match=r"b\.json does not exist; make one"):
        read_json(tmp_path / "b.json", "make one")
    for content, sentence in (
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[]", "is no JSON object"),
    ):
        (tmp_path / "c.json").write_bytes(content)
        with pytest.raises(UserError, match=rf"c\.json {sentence}"):
            read_json(tmp_path / "c.json")


def test_json_lines_end_with_a_line_feed_only(tmp_path: Path) -> None:
    """Unicode's own line ends may stand inside a string of JSON; a last line may be cut short."""
    path = tmp_path / "lines.jsonl"
    path.write_bytes('{"text": "a\u2028b\x85c"}\r\n\n[1]\n{"text": "d"}\n{"text": "cut'.encode())
    assert read_json_lines(path) == [{"text": "a\u2028b\x85c"}, {"text": "d"}]
    assert read_json_lines(tmp_path / "none.jsonl") == []


def test_the_nearest_name() -> None:
    assert nearest("trian", ["train", "chat"]) == "train"
    assert nearest("zzz", ["train", "chat"]) is None
    assert did_you_mean("trian", ["train"], "see --help") == "did you mean train?"
    assert did_you_mean("zzz", ["train"], "see --help") == "see --help"


@pytest.mark.parametrize("unit", ["bytes", "tokens", ""])
def test_a_bar_is_for_a_terminal(
    unit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> str:
        with progress("reading", 10, unit) as update:
            update(4, documents=1200)
            update.reach(8)
            update.say("writing")
            update(2)
        return capsys.readouterr().err

    assert work() == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal
    shown = work()
    for words in (
        "writing",
        "1,200 documents",
        "left",
        {"bytes": "10/10 bytes", "tokens": "tokens/s"}.get(unit, "0:00"),
    ):
        assert words in shown
