"""Single tokens as text and as bytes, for lists of log-probabilities."""

from __future__ import annotations

from minimind.infer.events import Token
from minimind.tokenizer import Tokenizer


class TokenText:
    """What the tokens of one vocabulary spell."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def of(self, token: Token) -> str:
        """The token's text, also of a control token; bytes that are no whole character show as U+FFFD."""
        return self.tokenizer.decode([token.id], skip_special=False)

    def bytes_of(self, token: Token) -> bytes:
        """The same before it is text: parts of one character are bytes of it."""
        spelled = self.tokenizer.backend.id_to_token(token.id) or ""
        if token.id in self.tokenizer.reserved.values() or not BYTES.keys() >= set(spelled):
            return self.of(token).encode()
        return bytes(BYTES[character] for character in spelled)


def _byte_level() -> dict[str, int]:
    """Byte-level vocabularies write each byte as one printable character (Radford et al. 2019, GPT-2's encoder)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + number): byte for number, byte in enumerate(others)}


BYTES = _byte_level()
