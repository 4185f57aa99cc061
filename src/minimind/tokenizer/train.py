"""Train a byte-level BPE vocabulary (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2)."""

import re
import warnings
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from minimind.errors import UserError
from minimind.tokenizer.reserved import BOS, EOS, MARKERS, PAD, RESERVED, SPECIAL
from minimind.tokenizer.template import default_template
from minimind.tokenizer.tokenizer import Tokenizer, well_formed
from minimind.tokenizer.windows import WINDOW

# The pre-tokenizer that llama.cpp calls "qwen2": contractions, words with one leading sign or space, single
# digits, runs of signs, line ends, spaces. Contractions are spelled out instead of `(?i:…)`, which would
# also fold rare letters such as "ſ" that llama.cpp leaves alone.
WORDS = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)

# Longer words are cut, and of all of them together only so many characters are learned from: they hardly ever come
# twice, and each keeps the trainer's memory and time for as long as it is.
LONGEST_WORD = 128
FROM_LONG_WORDS = 2**20
_LONG_WORD = re.compile(
    "|".join(rf"{kind}{{{LONGEST_WORD}}}(?={kind})" for kind in (r"[^\W\d_]", r"(?:[^\w\s]|_)", r"\s"))
)

# Where a text may be cut between two words: after a letter, before white space, a full stop or a comma.
_SEAM = re.compile(r"(?<=[^\W\d_])(?=[ \n,.，。])")

SMALLEST_VOCAB = len(RESERVED) + 256  # every byte is a token, so that any text can be written


def train(texts: Iterable[str], vocab_size: int = 6400, progress: bool = False) -> Tokenizer:
    """Learn `vocab_size` tokens (36 reserved, 256 bytes, the rest merges) from `texts`.

    The same texts in the same order give the same tokenizer, byte for byte. Warns (`UserWarning`) when the
    texts hold too few repeated pairs to reach the size, and when words longer than LONGEST_WORD were cut. Raises
    UserError for a size below 292 or no text.
    """
    if vocab_size < SMALLEST_VOCAB:
        raise UserError(
            f"a vocabulary of {vocab_size} is too small: {len(RESERVED)} reserved tokens and 256 bytes need "
            f"at least {SMALLEST_VOCAB}"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=RESERVED,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=progress,
    )
    seen = _Parts(texts)
    backend.train_from_iterator(seen, trainer)
    if not seen.count:
        raise UserError("there is no text to train a tokenizer on: every document is empty, or there is none")

    tokenizer = Tokenizer(_with_reserved(backend), _config(), default_template())
    if tokenizer.vocab_size < vocab_size:
        warnings.warn(
            f"the text was enough for {tokenizer.vocab_size} tokens only, not {vocab_size}; "
            "give more text or ask for a smaller vocabulary",
            stacklevel=2,
        )
    if seen.cut_words:
        warnings.warn(
            f"words longer than {LONGEST_WORD} letters or signs were cut in {seen.cut_words:,} places, and "
            f"{seen.left_out:,} characters of them left out",
            stacklevel=2,
        )
    return tokenizer


class _Parts:
    """Passes on the texts in parts that a trainer takes in good time, and counts them and the words cut in two."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.count = self.cut_words = self.left_out = 0

    def __iter__(self) -> Iterator[str]:
        for text in map(well_formed, self.texts):
            start = 0
            while start < len(text):
                seam = _SEAM.search(text, start + WINDOW, start + WINDOW + 1000)
                end = seam.start() if seam else start + WINDOW
                yield from self._without_long_words(text[start:end])
                start = end

    def _without_long_words(self, text: str) -> Iterator[str]:
        start = 0
        for word in _LONG_WORD.finditer(text):
            self.cut_words += 1
            if self.cut_words * LONGEST_WORD <= FROM_LONG_WORDS:
                yield text[start : word.end()]
            else:
                self.left_out += LONGEST_WORD
                yield text[start : word.start()]
            start = word.end()
        self.count += 1
        yield text[start:]


def _with_reserved(trained: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The trained model with each reserved token's own kind: the trainer makes all of them special."""
    backend = tokenizers.Tokenizer(trained.model)
    backend.pre_tokenizer = trained.pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKERS])
    return backend


def _config() -> dict:
    """What `tokenizer_config.json` says besides the chat template, in transformers' words."""
    kinds = dict.fromkeys(SPECIAL, True) | dict.fromkeys(MARKERS, False)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": PAD,
        "additional_special_tokens": [token for token in SPECIAL if token != PAD],
        "added_tokens_decoder": {
            str(index): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": special,
            }
            for index, (token, special) in enumerate(kinds.items())
        },
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
