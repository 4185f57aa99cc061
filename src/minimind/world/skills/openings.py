"""Polite openings that may stand before a question; they change nothing about its answer."""

from __future__ import annotations

from minimind.world.rng import Rng

OPENINGS = {
    "en": (
        "Hello! ",
        "Hi! ",
        "Hi there. ",
        "Hey! ",
        "A question: ",
        "Good morning! ",
        "Excuse me. ",
        "One more question. ",
        "OK. ",
    ),
    "zh": ("你好！", "您好，", "嗨，", "问一下：", "早上好！", "打扰一下，", "好的，", "那么，", "喂，"),
}


def opening(rng: Rng, lang: str, probability: float = 0.3) -> str:
    """An opening, or nothing."""
    return rng.pick(OPENINGS[lang]) if rng.chance(probability) else ""
