"""A stage is data, an objective and a few defaults; the loop is the trainer's."""

from types import ModuleType

from minimind.stages import pretrain, sft

STAGES: dict[str, ModuleType] = {"pretrain": pretrain, "sft": sft}
