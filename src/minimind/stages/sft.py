"""Supervised fine-tuning: a pretrained model learns to answer, from conversations.

Only what the assistant says is trained on; the rest of a conversation is what it reads.
"""

from __future__ import annotations

from minimind.stages.stage import Stage
from minimind.train.objective import NextToken

STAGE = Stage(
    "sft",
    lambda setup: NextToken(),
    defaults={
        "batch": {"long_documents": "truncate"},  # a conversation's later half makes no sense alone
        "optimizer": {"learning_rate": 0.005},
        "schedule": {"decay": 0.8},
    },
)
