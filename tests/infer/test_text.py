"""Text that comes token by token."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.errors import UserError
from minimind.infer.events import End, ModelEvent, Text, Thinking, Token
from minimind.infer.text import AnswerStream, StopStrings, StreamDecoder, TextStream
from minimind.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*map(decoder.push, ids), decoder.flush()]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text(max_size=30))
def test_text_comes_out_whole(tokenizer: Tokenizer, text: str) -> None:
    pieces = stream(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_waits_for_its_last(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🙂")
    assert len(ids) == 4
    assert stream(tokenizer, ids) == ["", "", "", "🙂", ""]


def test_what_stands_before_an_unfinished_character_is_not_held_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("cat🙂")
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids[:-1])) == "cat"
    assert decoder.push(ids[-1]) == "🙂"


def test_any_ids_give_the_text_of_a_whole_decode(tokenizer: Tokenizer) -> None:
    """Also broken UTF-8, as an untrained model writes it, and control tokens, which are not shown."""
    rng = random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(rng.randint(1, 25))]
        decoder = StreamDecoder(tokenizer)
        pieces = [*map(decoder.push, ids), decoder.flush()]
        assert "".join(pieces) == tokenizer.decode(ids)


def test_memory_is_bounded_when_no_character_ever_ends(tokenizer: Tokenizer) -> None:
    continuation = tokenizer.encode("🙂")[-1]
    decoder = StreamDecoder(tokenizer)
    text = "".join(decoder.push(continuation) for _ in range(100))
    assert len(decoder.pending) <= 3
    assert text + decoder.flush() == "\ufffd" * 100


def until(text: str, stop: list[str]) -> str:
    """The reference: look for all stop strings after every character."""
    for end in range(len(text) + 1):
        found = [one for one in stop if text[:end].endswith(one)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text("ab🙂é ", max_size=30),
    stop=st.lists(st.text("ab🙂é ", min_size=1, max_size=4), max_size=3),
    tokens_per_word=st.booleans(),
)
def test_stop_strings_end_the_text_wherever_tokens_have_their_borders(
    tokenizer: Tokenizer, text: str, stop: list[str], tokens_per_word: bool
) -> None:
    words = [text] if tokens_per_word else list(text)
    ids = [token for word in words for token in tokenizer.encode(word)]
    wanted, shown, text_stream = until(text, stop), "", TextStream(tokenizer, stop)
    for token in ids:
        (event,) = text_stream.push(Token(token))
        assert [one.id for one in event.tokens] == [token]
        shown += event.text
        assert wanted.startswith(shown), "what was shown cannot be taken back"
    last, end = text_stream.push(End("length"))
    assert shown + last.text == wanted
    assert end == End("stop" if wanted != text or any(map(text.endswith, stop)) else "length")


def test_only_a_beginning_of_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    strings = StopStrings(["###", "\nUser:"])
    assert "".join(map(strings.push, ["a", "b\n", "#"])) == "ab\n"
    assert strings.flush() == "#"
    assert not strings.stopped


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        StopStrings(["a", ""])


def events(tokenizer: Tokenizer, ids: list[int], open_thinking: bool = False) -> list[ModelEvent]:
    """The events of the ids; neighbors of one kind joined, those without text and the end left out."""
    answer = AnswerStream(tokenizer, open_thinking)
    joined: list[ModelEvent] = []
    for event in [event for one in [*map(Token, ids), End("stop")] for event in answer.push(one)][:-1]:
        if joined and type(joined[-1]) is type(event):
            event = type(event)(joined.pop().text + event.text)
        joined += [event] if event.text else []
    return joined


@pytest.mark.parametrize(
    ("text", "open_thinking", "wanted"),
    [
        ("the cat\n\nsees", False, [Text("the cat\n\nsees")]),
        ("<think>\na tree\n</think>\n\n🙂", False, [Thinking("a tree"), Text("🙂")]),
        ("a tree\n</think>\n\nred", True, [Thinking("a tree"), Text("red")]),
        ("a tree", True, [Thinking("a tree")]),
        ("\n\n\nred\n", False, [Text("red\n")]),
        ("", True, []),
        ("red\n<think>\nold", False, [Text("red\n<think>\nold")]),
        ("<think>\nold<think>", False, [Thinking("old<think>")]),
    ],
)
def test_thinking_and_content_come_apart(
    tokenizer: Tokenizer, text: str, open_thinking: bool, wanted: list[ModelEvent]
) -> None:
    assert events(tokenizer, tokenizer.backend.encode(text, add_special_tokens=False).ids, open_thinking) == wanted


def test_a_broken_character_at_the_end_of_thinking_stays_there(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("🙂")[:2], tokenizer.reserved["</think>"], *tokenizer.encode("red")]
    assert events(tokenizer, ids, open_thinking=True) == [Thinking("\ufffd"), Text("red")]
