"""Preference and policy losses against trl's: the trainers' own loss methods, given tensors instead of a model."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from minimind.data.batches.batch import IGNORE, Batch
from minimind.losses.preference import dpo_loss, ipo_loss, kto_loss, orpo_loss, reward_loss, simpo_loss
from minimind.rl import objectives
from minimind.rl.objectives import PolicyGradient
from minimind.stage_options import RLOptions


def trainer(cls, **attributes):
    """A trainer of trl without what its constructor loads; its methods are trl's."""
    bare = object.__new__(cls)
    common = {"accelerator": Accelerator(cpu=True), "aux_loss_enabled": False}
    common |= {"_metrics": {"train": defaultdict(list)}, "current_gradient_accumulation_steps": 1}
    bare.__dict__ |= common | attributes
    return bare


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dpo_of_trl(logprobs_BT, mask_BT, reference_B, loss_type, label_smoothing):
    """Loss and metrics; the chosen answers are the first half of the batch. The first token is never a target."""
    outputs = SimpleNamespace(log_probs=logprobs_BT, entropy=mask_BT, mean_logits=mask_BT, is_top1=mask_BT > 0)

    class Model:
        training = True

        def __call__(self, **_):
            return outputs

    full_mask = torch.nn.functional.pad(mask_BT, (1, 0))
    chosen, rejected = reference_B.chunk(2)
    inputs = {"input_ids": full_mask.long(), "attention_mask": torch.ones_like(full_mask)}
    inputs |= {"completion_mask": full_mask, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    bare = trainer(
        DPOTrainer, model=Model(), ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
        loss_types=[loss_type], loss_weights=[1.0], beta=0.3, label_smoothing=label_smoothing, use_weighting=False,
        _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    loss = bare._compute_loss(bare.model, inputs, return_outputs=False)
    return loss, bare._metrics["train"]


@pytest.mark.parametrize(
    ("loss_type", "pairs", "label_smoothing"),
    [("sigmoid", 5, 0.0), ("aot", 1, 0.0), ("aot", 1, 0.2)],  # of one pair, "aot" is conservative DPO
)
def test_dpo(loss_type, pairs, label_smoothing):
    mask = (random(2 * pairs, 9, seed=0) > -0.5).double()
    logprobs = (random(2 * pairs, 9, seed=1) * mask).requires_grad_()
    reference = (logprobs.detach() + 0.5 * random(2 * pairs, 9, seed=2) * mask).sum(1)
    theirs, their_metrics = dpo_of_trl(logprobs, mask, reference, loss_type, label_smoothing)
    losses, metrics = dpo_loss(*logprobs.sum(1).chunk(2), *reference.chunk(2), 0.3, label_smoothing)
    ours = losses.mean()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, logprobs, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-15)
    names = {
        "accuracy": "accuracies",
        "margin": "margins",
        "reward_chosen": "chosen",
        "reward_rejected": "rejected",
    }
    for name, their_name in names.items():
        assert metrics[name].mean().item() == pytest.approx(their_metrics[f"rewards/{their_name}"][0], rel=1e-6)


def test_ipo():
    """trl counts an answer's tokens by the whole mask, in which the first token is no target."""
    mask = (random(10, 9, seed=0) > -0.5).double()
    logprobs = (random(10, 9, seed=1) * mask).requires_grad_()
    reference = (logprobs.detach() + 0.5 * random(10, 9, seed=2) * mask).sum(1)
    theirs, _ = dpo_of_trl(logprobs, mask, reference, "ipo", 0.0)
    losses, _ = ipo_loss(*logprobs.sum(1).chunk(2), *reference.chunk(2), *mask.sum(1).chunk(2), beta=0.3)
    assert_equal_with_gradients(losses.mean(), theirs, logprobs)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_simpo(label_smoothing):
    sums, tokens = -5 * random(10, seed=1).abs(), 1 + (10 * random(10, seed=2).abs()).floor()
    sums.requires_grad_()
    options = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.7, "label_smoothing": label_smoothing}
    bare = trainer(CPOTrainer, alpha=0.0, **options)
    theirs, *their_rewards = bare.cpo_loss(*(sums / tokens).chunk(2))
    losses, metrics = simpo_loss(*sums.chunk(2), *tokens.chunk(2), 2.0, 0.7, label_smoothing)
    assert_equal_with_gradients(losses.mean(), theirs.mean(), sums)
    for side, values in zip(("chosen", "rejected"), their_rewards):
        assert torch.allclose(metrics[f"reward_{side}"], values, rtol=1e-12)


def test_orpo():
    """trl computes in fp32. Both ways to compute log(1 − p): answers whose tokens have p above and below a half."""
    sums, tokens = -5 * random(10, seed=1).abs(), 1 + (10 * random(10, seed=2).abs()).floor()
    sums.requires_grad_()
    means = sums / tokens
    assert means.exp().min() < 0.5 < means.exp().max()
    theirs, *their_rewards, _, _ = trainer(ORPOTrainer, beta=0.3).odds_ratio_loss(*means.chunk(2))
    losses, metrics = orpo_loss(*sums.chunk(2), *tokens.chunk(2), beta=0.3)
    assert losses.mean().item() == pytest.approx(-theirs.mean().item(), rel=1e-5)
    ours, wanted = (torch.autograd.grad(loss, sums, retain_graph=True)[0] for loss in (losses.sum(), -theirs.sum()))
    assert torch.allclose(ours, wanted, rtol=1e-4, atol=1e-6)
    for side, values in zip(("chosen", "rejected"), their_rewards):
        assert torch.allclose(metrics[f"reward_{side}"].float(), values, rtol=1e-6)


def test_kto():
    """From one point of reference: trl estimates it from the same mismatched answers."""
    mask = (random(7, 9, seed=0) > -0.5).double()
    logprobs = (random(7, 9, seed=1) * mask).requires_grad_()
    reference = (logprobs.detach() + 0.5 * random(7, 9, seed=2) * mask).sum(1)
    label, other = torch.tensor([1, 0, 1, 1, 0, 0, 1]).bool(), random(2, 7, seed=4)
    other[0] += 1
    outputs = SimpleNamespace(log_probs=logprobs, entropy=mask, mean_logits=mask)
    full = torch.nn.functional.pad(mask, (1, 0))
    inputs = {"input_ids": full.long(), "attention_mask": full, "completion_mask": full, "label": label}
    bare = trainer(
        KTOTrainer, model=SimpleNamespace(training=True), calculate_KL=True, precompute_ref_logps=True,
        loss_type="kto", beta=0.3, desirable_weight=1.0, undesirable_weight=1.0, _total_train_tokens=0, _tp_size=1,
        _compute_kl_logps=lambda *_: other[0],
    )  # fmt: skip
    inputs |= {"ref_logps": reference, "ref_KL_logps": other[1]}
    theirs = bare._compute_loss(lambda **_: outputs, inputs, return_outputs=False)
    kl = (other[0] - other[1]).mean().clamp(min=0)
    assert kl > 0
    losses, gains = kto_loss(logprobs.sum(1), reference, label, kl, 0.3)
    assert_equal_with_gradients(losses.mean(), theirs, logprobs)
    for name, side in (("chosen", label), ("rejected", ~label)):
        wanted = bare._metrics["train"][f"rewards/{name}"][0]
        assert (gains[side].mean() + 0.3 * kl).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("center", [None, 0.02])
@pytest.mark.parametrize("margin", [None, 0.4])
def test_reward(margin, center):
    rewards = random(10, seed=3).requires_grad_()
    bare = trainer(RewardTrainer, args=SimpleNamespace(center_rewards_coefficient=center), _total_train_tokens=0)
    bare._tp_size, bare.model = 1, SimpleNamespace(training=True)
    inputs = {"attention_mask": torch.ones(10, 4)} | ({} if margin is None else {"margin": margin})
    theirs = bare.compute_loss(lambda **_: SimpleNamespace(logits=rewards[:, None]), inputs)
    losses, metrics = reward_loss(*rewards.chunk(2), margin or 0.0, center or 0.0)
    assert_equal_with_gradients(losses.mean(), theirs, rewards)
    for name in ("accuracy", "margin"):
        assert metrics[name].mean().item() == pytest.approx(bare._metrics["train"][name][0], rel=1e-6)


def assert_equal_with_gradients(ours, theirs, parameter):
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-15)


# Of trl's ways to make GRPO's loss: its settings, and ours.
POLICY_LOSSES = {
    "grpo": ({"loss_type": "grpo"}, {"normalize": "answer"}),
    "dapo": ({"loss_type": "dapo"}, {"normalize": "token"}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {"normalize": "constant"}),
    "dual clip": ({"loss_type": "dapo", "delta": 1.4}, {"normalize": "token", "dual_clip": 1.4}),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.1},
        {"loss": "gspo", "normalize": "answer", "clip_low": 0.1, "clip_high": 0.1},
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.3},
        {"loss": "cispo", "normalize": "token", "clip_low": 1.0, "clip_high": 0.3},
    ),
}


@pytest.mark.parametrize("kl_weight", [0.0, 0.05])
@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_policy_gradients(name, kl_weight, monkeypatch):
    """Loss, gradient and metrics of our objective, whose model says what trl's is told."""
    mask = (random(6, 11, seed=0) > -0.5).double()
    logprobs = (-random(6, 11, seed=1).abs() * mask).requires_grad_()
    old = (logprobs.detach() + 0.3 * random(6, 11, seed=2)) * mask
    reference = (logprobs.detach() + 0.3 * random(6, 11, seed=3)) * mask
    advantages = random(6, seed=4)
    inputs = {
        "prompt_ids": mask[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": mask,
        "completion_mask": mask,
    }
    inputs |= {"advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": reference}
    settings, options = POLICY_LOSSES[name]
    settings = {"epsilon_low": 0.2, "epsilon_high": 0.28, "importance_sampling_level": "token"} | settings
    arguments = SimpleNamespace(
        use_bias_correction_kl=False, delta=settings.pop("delta", None), steps_per_generation=1
    )
    bare = trainer(
        GRPOTrainer, model=SimpleNamespace(training=True), beta=kl_weight, top_entropy_quantile=1.0,
        use_vllm=False, off_policy_mask_threshold=None, _entropy_bonus_enabled=False, max_completion_length=11,
        args=arguments, _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, mask, None), **settings,
    )  # fmt: skip
    theirs = bare._compute_loss(bare.model, inputs | {"num_items_in_batch": mask.sum()})

    options = {"clip_low": 0.2, "clip_high": 0.28, "max_tokens": 11, "kl_weight": kl_weight} | options
    objective = PolicyGradient(SimpleNamespace(recipe=SimpleNamespace(rl=RLOptions(**options))))
    monkeypatch.setattr(objectives, "hidden_states", lambda *_: None)
    monkeypatch.setattr(objectives, "target_logprobs_and_entropy", lambda *_: (logprobs * mask, mask))
    columns = {"logprobs": old, "advantages": advantages[:, None] * mask, "reference": reference}
    documents = torch.arange(6)[:, None].expand(6, 11)
    targets = torch.where(mask > 0, 1, IGNORE)
    table = {"source": torch.arange(6), "tokens": mask.sum(1).long()}
    batch = Batch(targets, targets, targets, documents, torch.tensor([]), int(mask.sum()), columns, table)
    terms = objective(None, batch)
    assert_equal_with_gradients(terms.losses["loss"] / objective.units(batch)["loss"], theirs, logprobs)
    seen = {metric: (total / count).item() for metric, (total, count) in terms.metrics.items()}
    assert 0 < seen["clip_fraction"] < 1
    if name in ("grpo", "dapo", "dr_grpo"):  # of gspo, trl counts answers; of the others, what helps a good token
        assert seen["clip_fraction"] == pytest.approx(bare._metrics["train"]["clip_ratio/region_mean"][0], rel=1e-6)
    if kl_weight:
        assert seen["kl"] == pytest.approx(bare._metrics["train"]["kl"][0], rel=1e-6)
