"""A trained model in a few lines of Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from minimind.errors import UserError
from minimind.eval.perplexity import NLL
from minimind.hardware import pick_device
from minimind.infer.adapters import check_name
from minimind.infer.conversation import assistant_message, chat_prompt
from minimind.infer.engine import Engine
from minimind.infer.events import Text
from minimind.infer.network import WeightFormat
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import AnswerStream, TextStream
from minimind.interop.upstream import build, read_tokenizer, read_weights
from minimind.losses.cross_entropy import linear_cross_entropy
from minimind.losses.scores import score_conversations
from minimind.model import Transformer
from minimind.model.hf.adapter import ADAPTER_CONFIG, find_base
from minimind.model.hf.weights import load_adapter, model_directory
from minimind.runs.read import default_directory
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.messages import Message


def find_newest_model() -> Path:
    """The model that was finished last in `runs/` (or $MINIMIND_RUNS); UserError saying how to get one."""
    runs = default_directory()
    configs = [config for name in ("config.json", ADAPTER_CONFIG) for config in runs.glob(f"**/model/{name}")]
    if not configs:
        raise UserError(f"there is no finished model in {runs}/; train one with `minimind quickstart`, or name one")
    return max(configs, key=lambda config: config.stat().st_mtime).parent


class Model:
    """A model and its tokenizer, ready to use.

    `adapter` names one of those that the model was loaded with; None: it answers without any.
    `**sampling` stands for the fields of SamplingParams: temperature, top_k, top_p, min_p, repetition_penalty,
    presence_penalty, frequency_penalty, logit_bias, json_schema, max_tokens, seed.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "auto",
        version: str | None = None,
        config: str | Path | None = None,
        weights: WeightFormat = "full",
        adapters: Mapping[str, str | Path] | None = None,
    ) -> None:
        """`path`: a model directory or a run directory; by default the newest model in `runs/`.

        It may also be published weights of the public MiniMind: a folder, or a `.pth`, `.bin` or `.safetensors`
        file, with what lies beside it. `version` and `config` are those of interop.upstream.read_weights. Or a
        GGUF file, see interop.gguf_read.

        device    auto, cpu, cuda, cuda:1, mps
        weights   "int8": generation with matrices in 8 bits, on a CPU about twice as fast; see Engine
        adapters  LoRA adapters of this model (directories or runs), by the names by which an answer chooses one;
                  without a `path`, the model is the base of the first
        """
        self.device = pick_device(device)
        adapters = adapters or {}
        if path is None:
            path = find_base(model_directory(next(iter(adapters.values())))) if adapters else find_newest_model()
        path = Path(path)
        tokenizer: Tokenizer | None
        if path.suffix == ".gguf" and not path.is_dir():
            from minimind.interop.gguf_read import read_gguf  # needs an optional package

            if version or config:
                raise UserError(f"{path} says itself what model it is; leave version and config out")
            self.directory = path
            model, tokenizer = read_gguf(path)
        else:
            read = read_weights(path, version, config)
            self.directory = read.folder
            has_tokenizer = (self.directory / "tokenizer.json").is_file()
            tokenizer = read_tokenizer(self.directory, read.config) if has_tokenizer else None
            model = build(read)
        self._tokenizer = tokenizer
        self._adapters = {name: load_adapter(model, folder, self.directory) for name, folder in adapters.items()}
        self.model, *_ = (one.cast(dtype).to(self.device) for one in (model, *self._adapters.values()))
        self._weights: WeightFormat = weights

    @cached_property
    def engine(self) -> Engine:
        """The generator of its tokens; UserError for a reward model, which has none."""
        return Engine(self.model, tokenizer=self._tokenizer, weights=self._weights, adapters=self._adapters)

    @classmethod
    def load(cls, path: str | Path | None = None, **options: Any) -> Model:
        """The same as `Model(path, …)`."""
        return cls(path, **options)

    @property
    def tokenizer(self) -> Tokenizer:
        """UserError where there is none beside the weights: then only `logits` works."""
        if self._tokenizer is None:
            raise UserError(f"{self.directory} has no tokenizer.json; copy the model's tokenizer there")
        return self._tokenizer

    def predict(self, text: str, adapter: str | None = None, **sampling: Any) -> str:
        """How the text goes on."""
        completion = self.engine.generate([self._text_prompt(text)], self.sampling_params(**sampling), adapter)[0]
        return self.tokenizer.decode(completion.ids)

    def chat(
        self,
        messages: Sequence[Message],
        tools: Any = None,
        open_thinking: bool = False,
        adapter: str | None = None,
        **sampling: Any,
    ) -> Message:
        """The assistant's next message: role, content, and where it has some reasoning_content and tool_calls."""
        params = self.sampling_params(**sampling)
        prompt = self._chat_prompt(messages, params, tools, open_thinking)
        completion = self.engine.generate([prompt], params, adapter)[0]
        return assistant_message(completion.ids, self.tokenizer, open_thinking)

    def stream(
        self,
        text: str | Sequence[Message],
        tools: Any = None,
        open_thinking: bool = False,
        adapter: str | None = None,
        **sampling: Any,
    ) -> Iterator[str]:
        """What `predict` of a text or `chat` of messages says, as it comes; thinking is left out."""
        params = self.sampling_params(**sampling)
        if isinstance(text, str):
            prompt = self._text_prompt(text)
            answer: TextStream | AnswerStream = TextStream(self.tokenizer)
        else:
            prompt = self._chat_prompt(text, params, tools, open_thinking)
            answer = AnswerStream(self.tokenizer, open_thinking)
        for news in self.engine.stream(prompt, params, adapter):
            yield from (event.text for event in answer.push(news) if isinstance(event, Text) and event.text)

    @torch.inference_mode()
    def score(self, text: str, adapter: str | None = None) -> dict[str, float]:
        """The NLL of a text, its end included: nats, tokens, bytes, bits_per_byte.

        A text longer than the context is cut into segments of that length; each begins without memory.
        """
        ids = [*self._text_prompt(text), self.tokenizer.eos_id]
        nll = NLL(tokens=len(ids) - 1, bytes=len(text.encode()))
        model = self._adapted(adapter)
        for start in range(0, len(ids) - 1, model.config.context_length):
            segment_T = torch.tensor(ids[start : start + model.config.context_length + 1], device=self.device)
            hidden_TD = model(segment_T[None, :-1])[0]
            nll.nats += float(linear_cross_entropy(hidden_TD, model.output_weight, segment_T[1:]))
        return nll.to_dict()

    def reward(self, messages: Sequence[Message], tools: Any = None) -> float:
        """The score that a reward model gives the last answer of a conversation."""
        if not self.model.config.num_labels:
            raise UserError(f"{self.directory} is no reward model; make one with `minimind train reward`")
        return score_conversations(self.model, [self.tokenizer.encode_chat(list(messages), tools)[0]])[0]

    @torch.inference_mode()
    def logits(self, ids: Any, adapter: str | None = None) -> torch.Tensor:
        """Scores of every next token: ids (…, T), a tensor or lists, to (…, T, V)."""
        tokens = torch.as_tensor(ids, device=self.device)
        rows = tokens.reshape(-1, tokens.shape[-1])
        model = self._adapted(adapter)
        return model.logits(model(rows)).reshape(*tokens.shape, -1)

    def _adapted(self, adapter: str | None) -> Transformer:
        """The model with one of its adapters; None: the base alone."""
        check_name(self._adapters, adapter)
        return self.model if adapter is None else self._adapters[adapter]

    def sampling_params(self, **sampling: Any) -> SamplingParams:
        """SamplingParams with the stop tokens of this model."""
        known = SamplingParams.__dataclass_fields__.keys()
        if unknown := sorted(sampling.keys() - known):
            raise UserError(f"{unknown[0]} is no sampling parameter; there are {', '.join(sorted(known))}")
        return SamplingParams(**{"stop_ids": self.tokenizer.stop_ids, **sampling})

    def _text_prompt(self, text: str) -> list[int]:
        return [self.tokenizer.bos_id, *self.tokenizer.encode(text)]

    def _chat_prompt(
        self, messages: Sequence[Message], params: SamplingParams, tools: Any, open_thinking: bool
    ) -> list[int]:
        return chat_prompt(self.tokenizer, messages, self.engine.context, params.max_tokens, tools, open_thinking)
