"""The tokenizer: text and conversations to ids, ids to text, and its two files on disk."""

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import jinja2
import tokenizers

from minimind.errors import UserError
from minimind.tokenizer.chat import ChatTemplate, normalize, trained_spans
from minimind.tokenizer.messages import validate, validate_prompt
from minimind.tokenizer.reserved import BOS, EOS, PAD
from minimind.tokenizer.stops import read_stops
from minimind.tokenizer.windows import WINDOW, Encoder, TextSpan, Window
from minimind.util.files import whole_file, write_json
from minimind.util.json_files import read_json

# What transformers is to know of a decoder: else its version 4 hands the model `token_type_ids`, and pads on the
# right, where the model goes on.
DECODER = {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "left"}


class Tokenizer:
    """A BPE vocabulary with reserved control tokens and a chat template; made by `load` or `train`.

    The reserved ids come from the chat template's own control strings only. In plain text and in messages
    `<|im_end|>` or `<think>` is ordinary text, whatever somebody typed.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: dict,
        chat_template: str | None,
        template_name: str = "the chat template",
    ) -> None:
        self.backend = backend
        self.config = config
        self.vocab_size = _number_of_ids(backend)
        self.reserved: dict[str, int] = {
            token.content: index for index, token in sorted(backend.get_added_tokens_decoder().items())
        }
        self.bos_id = self._special_id("bos_token", BOS)
        self.eos_id = self._special_id("eos_token", EOS)
        padded = config.get("pad_token") is not None or backend.token_to_id(PAD) is not None
        self.pad_id = self._special_id("pad_token", PAD) if padded else self.eos_id
        self.stop_ids = tuple(dict.fromkeys((self.eos_id, self.pad_id)))
        """what ends an answer: with those that the files of a model name, see `stop_also_at`"""
        self.chat_template = chat_template
        self._template = None
        if chat_template is not None:
            self._template = ChatTemplate(chat_template, self.reserved, template_name, self._special_tokens())
        # Without the reserved tokens: what it encodes is always ordinary text.
        self._encoder = Encoder(backend)

        # Turn headers and line ends come again and again.
        self._encode_short = lru_cache(maxsize=1024)(self.encode)

    @classmethod
    def load(cls, directory: str | Path) -> "Tokenizer":
        """Read `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja`."""
        directory = Path(directory)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{path} does not exist; a tokenizer directory holds it (minimind tokenizer train)")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a bad file
            raise UserError(f"{path} is not a tokenizer file: {error}") from None
        backend.no_truncation()
        backend.no_padding()
        # Without this the library gives such a token another id and says nothing.
        for token in read_json(path).get("added_tokens") or []:
            if backend.token_to_id(token["content"]) != token["id"]:
                raise UserError(
                    f"{path}: the added token {token['content']!r} cannot have the id {token['id']}; "
                    "every id is used once, without holes"
                )
        config_path = directory / "tokenizer_config.json"
        config = read_json(config_path, "a tokenizer directory holds it beside tokenizer.json")
        source, template_path = _read_template(directory, config.pop("chat_template", None))
        try:
            tokenizer = cls(backend, config, source, f"the chat template in {template_path}")
        except jinja2.TemplateError as error:
            raise UserError(f"{template_path}: the chat template has an error: {error}") from None
        except ValueError as error:
            raise UserError(f"{directory}: {error}") from None
        tokenizer.stop_also_at(read_stops(directory))
        return tokenizer

    def stop_also_at(self, ids: Iterable[int]) -> None:
        self.stop_ids = tuple(dict.fromkeys((*self.stop_ids, *ids)))

    def save(self, directory: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` (chat template inline); the same bytes every time."""
        directory = Path(directory)
        config = {**self.config, **DECODER}
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        with whole_file(directory / "tokenizer.json") as partial:  # by it a directory is a tokenizer's: named last
            partial.write_text(self.backend.to_str(pretty=True) + "\n", encoding="utf-8", newline="\n")
            write_json(directory / "tokenizer_config.json", config)
        # A file left by another tokenizer would win over the inline template.
        (directory / "chat_template.jinja").unlink(missing_ok=True)

    def __reduce__(self) -> tuple:
        name = "" if self._template is None else self._template.name
        parts = (self.backend.to_str(), self.config, self.chat_template, name)
        return _restore, parts, {"stop_ids": self.stop_ids}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that decides ids."""
        parts = [self.backend.to_str(), self.chat_template, self.pad_id, self.bos_id, self.eos_id]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without beginning and end tokens; never a reserved id."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of each text, in parallel threads (TOKENIZERS_PARALLELISM=false for one)."""
        texts = [well_formed(text) for text in texts]
        short = [text for text in texts if len(text) <= WINDOW]
        encodings = iter(self._encoder.first.encode_batch_fast(short, add_special_tokens=False))
        return [
            next(encodings).ids
            if len(text) <= WINDOW
            else list(chain.from_iterable(window.ids for window in self.windows(text)))
            for text in texts
        ]

    def windows(self, text: str) -> Iterator[Window]:
        """Ids and offsets of a text of any length, in parts that together are those of the whole text."""
        return self._encoder.windows(well_formed(text))

    def encode_with_offsets(self, text: str) -> list[tuple[int, TextSpan]]:
        """Each id of `encode(text)` with its characters (start, end); bytes of one character share them."""
        return [pair for window in self.windows(text) for pair in zip(window.ids, window.offsets)]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ids. Incomplete UTF-8 becomes U+FFFD. `skip_special` leaves out turn borders, not `<think>`."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special)

    def render(
        self,
        messages: Sequence[dict],
        tools: Any = None,
        add_generation_prompt: bool = False,
        open_thinking: bool = False,
    ) -> str:
        """The conversation as the chat template writes it. Raises ChatError for messages it cannot use."""
        messages, tools = normalize(messages, tools)
        flags = {"add_generation_prompt": add_generation_prompt, "open_thinking": open_thinking}
        return self._chat().render(messages, tools, turns=False, **flags).text

    def encode_chat(
        self,
        messages: Sequence[dict],
        tools: Any = None,
        add_generation_prompt: bool = False,
        open_thinking: bool = False,
        train_on: str = "assistant",
        train_thinking: bool = True,
        train_tool_calls: bool = True,
    ) -> tuple[list[int], list[int]]:
        """Ids of a conversation and a mask of the same length: 1 where the model is to learn the token.

        Trained on are the assistant's turns (`train_on="last"`: only the last) from after their header to the
        closing `<|im_end|>`. An empty thinking block is not: the generation prompt supplies it.

        The ids equal those of transformers' `apply_chat_template`, except that control strings inside
        messages stay ordinary text. With `add_generation_prompt`, a last message of the assistant is left open to
        go on from, as with transformers' `continue_final_message`. Raises ChatError for a conversation that cannot
        be used.
        """
        (validate_prompt if add_generation_prompt else validate)(messages)
        messages, tools = normalize(messages, tools)
        continues = add_generation_prompt and messages[-1]["role"] == "assistant"
        flags = {"add_generation_prompt": add_generation_prompt and not continues, "open_thinking": open_thinking}
        rendered = self._chat().render(messages, tools, **flags)
        if continues:
            rendered = rendered.without_last_end()
        spans = trained_spans(rendered, messages, train_on, train_thinking, train_tool_calls)
        text = rendered.text
        ids: list[int] = []
        mask: list[int] = []
        done = 0
        for start, end in [*rendered.controls, (len(text), len(text))]:
            if done < start:
                self._append_text(text, (done, start), spans, ids, mask)
            if start < end:
                ids.append(self.reserved[text[start:end]])
                mask.append(int(any(first <= start and end <= last for first, last in spans)))
            done = end
        return ids, mask

    def _append_text(
        self, text: str, part: TextSpan, spans: list[TextSpan], ids: list[int], mask: list[int]
    ) -> None:
        """Encode one run of text between two control tokens, as the tokenizers library splits them."""
        start, end = part
        run = text[start:end]
        touched = [(max(first, start), min(last, end)) for first, last in spans if first < end and start < last]
        if touched in ([], [part]):
            run_ids = self._encode_short(run) if len(run) <= 16 else self.encode(run)
            ids += run_ids
            mask += [len(touched)] * len(run_ids)
            return
        # A turn begins or ends within this run.
        for window in self.windows(run):
            window_mask = [0] * len(window.ids)
            for first, last in touched:
                inside = _tokens_within(window.offsets, first - start, last - start)
                window_mask[inside] = [1] * len(window_mask[inside])
            ids += window.ids
            mask += window_mask

    def _chat(self) -> ChatTemplate:
        if self._template is None:
            raise UserError("this tokenizer has no chat template; add chat_template.jinja to its directory")
        return self._template

    def _special_id(self, key: str, default: str) -> int:
        content = self._special_tokens().get(key, default)
        index = self.backend.token_to_id(content)
        if index is None:
            raise ValueError(f"{key} {content!r} is not in the vocabulary")
        return index

    def _special_tokens(self) -> dict[str, str]:
        """`eos_token` and its kind, which templates know by these names. Raises ValueError for what is no text."""
        tokens = {}
        for key, token in self.config.items():
            if key.endswith("_token") and token and not isinstance(token, bool):  # add_bos_token is a bool
                content = token.get("content") if isinstance(token, dict) else token
                if not isinstance(content, str):
                    raise ValueError(f"{key} is neither a text nor an object with content")
                tokens[key] = content
        return tokens


def well_formed(text: str) -> str:
    """`text` with lone halves of surrogate pairs (broken escapes in JSON) as U+FFFD: they have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def _tokens_within(offsets: list[TextSpan], start: int, end: int) -> slice:
    """The tokens that lie wholly within the characters start to end."""
    first = bisect_left(offsets, start, key=itemgetter(0))
    return slice(first, bisect_right(offsets, end, lo=first, key=itemgetter(1)))


def _restore(backend: str, config: dict, chat_template: str | None, template_name: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(backend), config, chat_template, template_name)


def _number_of_ids(backend: tokenizers.Tokenizer) -> int:
    """One more than the highest id. Raises ValueError where ids are given twice, or are mostly holes."""
    ids = set(backend.get_vocab().values())
    if len(ids) < backend.get_vocab_size():
        raise ValueError("tokenizer.json gives one id to several tokens")
    size = max(ids, default=-1) + 1
    if size > 2 * len(ids):
        raise ValueError(f"tokenizer.json has {len(ids):,} tokens, but ids up to {size - 1:,}; number them from 0")
    return size


def _read_template(directory: Path, inline: Any) -> tuple[str | None, Path]:
    """A directory's chat template and the file it is in: of several named ones the one called default."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8"), path
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8; convert it") from None
    path = directory / "tokenizer_config.json"
    if isinstance(inline, list):
        named = [one for one in inline if isinstance(one, dict) and one.get("name") == "default"]
        inline = named[0].get("template") if named else 0
    if inline is not None and not isinstance(inline, str):
        raise UserError(f"{path}: chat_template is neither a text nor a list of named ones with a default")
    return inline, path
