"""Single tokens as text and as bytes, for lists of log-probabilities."""

from __future__ import annotations

from minimind.infer.events import Token
from minimind.tokenizer import Tokenizer

LOWEST = -9999.0  # JSON has no minus infinity; OpenAI's API writes this


def nats(token: Token) -> float:
    """The token's log-probability as JSON can hold it."""
    return max(token.logprob, LOWEST)


class TokenText:
    """What the tokens of one vocabulary spell."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def of(self, token: Token) -> str:
        """The token's text, also of a control token; a part of a character is spelled `bytes:\\xe5`."""
        spelled = self.bytes_of(token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def bytes_of(self, token: Token) -> bytes:
        """The same before it is text: parts of one character are bytes of it."""
        spelled = self.tokenizer.backend.id_to_token(token.id) or ""
        if token.id in self.tokenizer.reserved.values() or not BYTES.keys() >= set(spelled):
            return self.tokenizer.decode([token.id], skip_special=False).encode()
        return bytes(BYTES[character] for character in spelled)

    def likeliest(self, token: Token) -> dict[str, float]:
        """Text and log-probability of a token and of those reported beside it, the likeliest first.

        Where two are spelled alike, the other one is called `token_id:` and its id.
        """
        found = {self.of(token): nats(token)}
        for other in token.top_logprobs:
            if other.id != token.id:
                name = self.of(other)
                found[f"token_id:{other.id}" if name in found else name] = nats(other)
        return dict(sorted(found.items(), key=lambda one: -one[1]))


def _byte_level() -> dict[str, int]:
    """Byte-level vocabularies write each byte as one printable character (Radford et al. 2019, GPT-2's encoder)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + number): byte for number, byte in enumerate(others)}


BYTES = _byte_level()
