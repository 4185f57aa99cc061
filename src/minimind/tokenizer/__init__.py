"""Text and chat messages to token ids, and back."""

from minimind.tokenizer.chat import normalize
from minimind.tokenizer.messages import ChatError, validate
from minimind.tokenizer.parse import parse_assistant
from minimind.tokenizer.tokenizer import Tokenizer

__all__ = ["ChatError", "Tokenizer", "normalize", "parse_assistant", "validate"]
