"""Balance and z-loss by hand, and against transformers."""

import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from minimind.losses import routing

E, K = 4, 2


@pytest.fixture
def routed():
    """Logits, probabilities and choices of 24 tokens in documents of 9, 1 and 11 tokens and 3 of padding."""
    torch.manual_seed(0)
    logits = torch.randn(24, E, dtype=torch.float64)
    documents = torch.tensor([0] * 9 + [1] + [2] * 11 + [-1] * 3)
    probabilities = logits.softmax(-1)
    return logits, probabilities, probabilities.topk(K).indices, documents


def test_document_balance_is_a_token_weighted_mean_over_documents(routed):
    _, probabilities, chosen, documents = routed
    wanted = 0.0
    for document, length in ((0, 9), (1, 1), (2, 11)):
        mine = documents == document
        share = torch.stack([(chosen[mine] == e).double().sum() / (length * K) for e in range(E)])
        wanted += length * E * (share * probabilities[mine].mean(0)).sum()
    found = routing.document_balance(probabilities, chosen, documents, 3)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_documents_alone_give_the_same_sum(routed):
    _, probabilities, chosen, documents = routed
    alone = 0.0
    for document in range(3):
        mine = documents == document
        alone += routing.document_balance(probabilities[mine], chosen[mine], documents[mine] * 0, 1)
    found = routing.document_balance(probabilities, chosen, documents, 3)
    torch.testing.assert_close(found, alone, rtol=1e-9, atol=0)


def test_of_one_document_it_is_that_of_transformers(routed):
    """Theirs counts the K choices one by one, so it is K when all is balanced; ours is 1."""
    logits, probabilities, chosen, _ = routed
    theirs = load_balancing_loss_func((logits,), num_experts=E, top_k=K)
    ours = routing.document_balance(probabilities, chosen, torch.zeros(24, dtype=torch.long), 1) / 24
    torch.testing.assert_close(ours, theirs.double() / K, rtol=1e-6, atol=0)


def test_global_balance_with_the_shares_of_its_own_tokens_is_that_of_one_document(routed):
    _, probabilities, chosen, _ = routed
    kept = torch.ones(24, dtype=torch.float64)
    share = routing.tokens_per_expert(chosen, kept, E) / (24 * K)
    found = routing.global_balance(probabilities, share, kept)
    wanted = routing.document_balance(probabilities, chosen, torch.zeros(24, dtype=torch.long), 1)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_padding_counts_nowhere(routed):
    logits, probabilities, chosen, documents = routed
    kept = (documents >= 0).double()
    share = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for function in (
        lambda p, c, d, z, k: routing.document_balance(p, c, d, 3),
        lambda p, c, d, z, k: routing.global_balance(p, share, k),
        lambda p, c, d, z, k: routing.z_loss(z, k),
        lambda p, c, d, z, k: routing.entropy(p, k),
        lambda p, c, d, z, k: routing.tokens_per_expert(c, k, E),
    ):
        whole = function(probabilities, chosen, documents, logits, kept)
        cut = function(probabilities[:21], chosen[:21], documents[:21], logits[:21], kept[:21])
        torch.testing.assert_close(whole, cut, rtol=1e-12, atol=0)


def test_z_loss_and_entropy_by_hand():
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64))
    kept = torch.tensor([1.0, 1.0], dtype=torch.float64)
    found = routing.z_loss(logits, kept)
    torch.testing.assert_close(
        found.item(), torch.tensor(8.0).log().item() ** 2 + torch.tensor(4.0).log().item() ** 2
    )
    shares = torch.tensor([1 / 8, 2 / 8, 3 / 8, 2 / 8])
    wanted = -(shares * shares.log()).sum().item() + torch.tensor(4.0).log().item()
    assert routing.entropy(logits.softmax(-1), kept).item() == pytest.approx(wanted, rel=1e-6)
