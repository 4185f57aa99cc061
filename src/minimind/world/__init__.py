"""The embedded world: a bilingual Chinese and English corpus that this package makes itself.

A seed goes in; texts, conversations, preferences, prompts and held-out questions come out, the same bytes on every
machine. `tables/` holds what the world knows, `skills/` makes questions with their answers, and the modules here
turn them into the published formats. Questions are in `minimind.world.questions`.
"""

from minimind.world.chats import conversations
from minimind.world.preference import preferences, rl_prompts
from minimind.world.sample import Question, Sample
from minimind.world.texts import pretrain_texts
from minimind.world.write import write_world

__all__ = ["Question", "Sample", "conversations", "preferences", "pretrain_texts", "rl_prompts", "write_world"]
