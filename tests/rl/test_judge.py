"""A model behind a server as the judge, and models of transformers as reward models."""

import math

import pytest
import torch
from tests.rl.test_rewards import GIVEN, GUARD, rollout
from tests.stub_server import DONE, stub_server

from minimind.errors import UserError
from minimind.infer import remote
from minimind.rl.rewards import Rewards
from minimind.rl.rewards.compose import make_part


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMIND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINIMIND_JUDGE_API_KEY", "secret")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    with stub_server() as server:
        yield server


def says(text):
    return [{"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}, DONE]


def judge(server, **options):
    text = "".join(f",{name}={value}" for name, value in options.items())
    return make_part(f"judge=1,url={server.url},concurrency=1{text}", GIVEN, GUARD)


def test_a_mark_from_1_to_10_is_a_reward_from_0_to_1(server):
    server.answers = [says("10"), says("1"), says("Mark: 5.5")]
    answers = [rollout(text) for text in ("good", "bad", "so so")]
    assert judge(server).reward(answers) == [1, 0, 0.5]
    assert [one["model"] for one in server.asked] == ["small"] * 3  # the server's first
    assert server.keys == ["Bearer secret"] * 3
    question = server.asked[1]["messages"][0]["content"]
    assert "user: What is 36 + 47?" in question
    assert "[answer]\nbad\n" in question


def test_no_answer_is_judged_twice_also_by_another_process(server):
    server.answers = [says("10"), says("4")]
    answers = [rollout("good"), rollout("bad"), rollout("good")]
    found = [judge(server, model="large").reward(answers) for _ in range(2)]
    assert found == [[1, pytest.approx(1 / 3), 1]] * 2
    assert len(server.asked) == 2
    server.answers = [says("1")]
    assert judge(server, model="small").reward(answers[:1]) == [0]  # another judge has its own marks


def test_without_a_mark_the_answer_is_as_good_as_the_others(server):
    server.answers = [says("10"), says("I cannot say."), says("1")]
    assert math.isnan(judge(server).reward([rollout("good"), rollout("what?"), rollout("bad")])[1])
    answers = [rollout("good"), rollout("what?"), rollout("bad", group=1)]
    scored = Rewards([judge(server)])(answers)
    assert [(one.reward, one.parts["skipped"]) for one in scored] == [(1, 0), (1, 1), (0, 0)]


def test_a_request_that_fails_for_a_moment_is_sent_again(server):
    server.answers = [["data: no json"], says("10")]
    assert judge(server).reward([rollout("good")]) == [1]
    with pytest.raises(UserError, match="top_k is too large"):  # what it answers when nothing is left: 400
        judge(server).reward([rollout("bad")])
    server.answers = [["data: no json"]] * 3
    with pytest.raises(UserError, match="sends no stream of completions"):
        judge(server, retries=2).reward([rollout("bad")])
    assert server.answers == []


@pytest.mark.parametrize("labels", [1, 2])
def test_a_model_of_transformers_with_its_own_tokenizer(base_model, tmp_path, labels):
    """Its logit is the score; of two, how much likelier the second is."""
    transformers = pytest.importorskip("transformers")
    from minimind.tokenizer import Tokenizer

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_model)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=labels, max_position_embeddings=128, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "scorer")
    tokenizer.save_pretrained(tmp_path / "scorer")
    given = GIVEN | {"tokenizer": Tokenizer.load(base_model), "device": torch.device("cpu")}
    part = make_part(f"model=1,path={tmp_path / 'scorer'}", given, GUARD)
    answers = [rollout(text) for text in ("yes", "a longer answer than the other one", "no")]
    wanted = []
    for one in answers:
        ids = tokenizer.apply_chat_template(one.messages, tokenize=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            logits = model(**ids).logits[0]
        wanted.append(float(logits[-1] - (logits[0] if labels == 2 else 0)))
    assert part.reward(answers) == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert len({round(one, 3) for one in wanted}) == 3


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError):
        make_part(f"model=1,path={tmp_path}", GIVEN, GUARD)
