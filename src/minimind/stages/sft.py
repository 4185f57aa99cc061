"""Supervised fine-tuning: a pretrained model learns to answer, from conversations.

Only what the assistant says is trained on; the rest of a conversation is what it reads.
"""

from __future__ import annotations

from typing import Any

from minimind.train.objective import NextToken

KIND = "chat"
NEEDS_START = True
OBJECTIVE = NextToken
DEFAULTS: dict[str, Any] = {
    "stage": "sft",
    "batch": {"long_documents": "truncate"},  # a conversation's later half makes no sense alone
    "optimizer": {"learning_rate": 0.005},
    "schedule": {"decay": 0.8},
}
