"""A teacher that transformers computes is the one that we compute; where documents see each other it is refused."""

import numpy as np
import pytest
import torch
from tests.random_models import random_ids, random_model
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import pack_once
from minimind.errors import UserError
from minimind.losses.cross_entropy import hidden_states
from minimind.model import save_model
from minimind.stages.teacher import OurTeacher, TransformersTeacher

CPU = torch.device("cpu")
FAMILIES = {
    "dense": {},
    "llama": {"model_type": "llama"},
    "experts": {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}


@pytest.fixture(scope="module")
def batch():
    """Documents of several lengths in two sequences, the second not full."""
    lengths = [5, 12, 3, 9, 14]
    ids = [random_ids(length, seed=length).numpy() for length in lengths]
    return pack_once(MemoryDocuments(ids, [np.ones(n, np.uint8) for n in lengths]), 24)


@pytest.mark.parametrize("fields", FAMILIES.values(), ids=FAMILIES)
def test_one_model_loaded_both_ways(tmp_path, batch, fields):
    save_model(random_model(**fields), tmp_path)
    ours, theirs = (kind(tmp_path, torch.float32, CPU) for kind in (OurTeacher, TransformersTeacher))
    assert theirs.vocab_size == ours.vocab_size == 97
    real = batch.documents >= 0
    assert not real.all()
    logits = [teacher.head(teacher.hidden(batch)[real]) for teacher in (ours, theirs)]
    assert (logits[0] - logits[1]).abs().max() <= 1e-5 * logits[0].abs().max()
    assert not any(one.requires_grad for one in logits)


def test_a_model_that_is_none_of_ours(tmp_path, batch):
    """Against each document alone."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_positions=32, n_embd=32, n_layer=2, n_head=2)).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    teacher = TransformersTeacher(tmp_path, torch.float32, CPU)
    logits = teacher.head(teacher.hidden(batch))
    for number in range(batch.num_documents):
        here = batch.documents == number
        with torch.no_grad():
            alone = model(batch.tokens[here][None]).logits[0]
        assert (logits[here] - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_a_model_whose_documents_see_each_other_is_refused(tmp_path):
    config = MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="documents in one sequence see each other"):
        TransformersTeacher(tmp_path, torch.float32, CPU)


def test_what_transformers_cannot_load_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="cannot be loaded by transformers"):
        TransformersTeacher(tmp_path, torch.float32, CPU)


def test_our_teacher_is_the_model_in_the_type_of_the_computation(tmp_path, batch):
    model = random_model()
    save_model(model, tmp_path)
    teacher = OurTeacher(tmp_path, torch.bfloat16, CPU)
    model.compute_dtype = torch.bfloat16
    with torch.no_grad():
        assert torch.equal(teacher.hidden(batch), hidden_states(model, batch))


def test_logits_that_are_more_than_a_product_are_refused(tmp_path):
    """Gemma 2 bends its logits."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Gemma2Config(vocab_size=97, num_hidden_layers=2, head_dim=16, final_logit_softcapping=0.1, **shape)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="its logits are more than a matrix product"):
        TransformersTeacher(tmp_path, torch.float32, CPU)
