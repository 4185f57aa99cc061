"""The stages by name; each is a small file. The loop is the trainer's."""

from minimind.stages import distill, dpo, grpo, pretrain, reason, sft
from minimind.stages.stage import Stage

STAGES: dict[str, Stage] = {
    module.STAGE.name: module.STAGE for module in (pretrain, sft, dpo, distill, grpo, reason)
}
