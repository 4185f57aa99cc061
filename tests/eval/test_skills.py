"""Grading and the skill report, with engines that answer from a list."""

import json
import math

import pytest

from minimind.eval.skills import DIALOGUES, Score, SkillReport, evaluate, grade, sample_dialogues
from minimind.infer.request import Completion
from minimind.world.questions import questions
from minimind.world.sample import Question, user
from minimind.world.skills import SKILLS


class Characters:
    """A tokenizer whose ids are code points."""

    stop_ids = (2, 0)

    def encode_chat(self, messages, tools=None, add_generation_prompt=False, **_):
        assert add_generation_prompt
        text = json.dumps(messages, ensure_ascii=False)
        return [ord(character) for character in text], []

    def decode(self, ids, skip_special=True):
        return "".join(map(chr, ids))


class Answers:
    """An engine that knows the answer to each prompt, in one greedy batch."""

    def __init__(self, answer, stop_reason="stop"):
        self.answer, self.stop_reason = answer, stop_reason
        self.batches = 0

    context = 4096

    def generate(self, prompts, params):
        assert params.temperature == 0
        self.batches += 1
        texts = [self.answer(json.loads("".join(map(chr, prompt)))) for prompt in prompts]
        return [Completion([ord(c) for c in text], self.stop_reason, [0.0] * len(text)) for text in texts]


def right_answer(question: Question) -> str:
    match question.check:
        case "tool_call":
            return f"<tool_call>\n{question.gt[0]}\n</tool_call>"
        case "list":
            return ", ".join(question.gt[: question.count])
        case "sentence":
            return f"{' '.join(question.gt)}."
        case "states":
            return " ".join(question.gt)
    return question.gt[0]


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(0, 20)


@pytest.fixture(scope="module")
def answer(asked):
    known = {json.dumps(question.prompt): right_answer(question) for question in asked}
    return lambda messages: known[json.dumps(messages)]


def test_a_model_that_knows_everything(asked, answer):
    engine = Answers(answer)
    report = evaluate(engine, Characters(), asked, keep=2)
    assert engine.batches == 1
    assert report.macro == 1.0
    assert report.stopped == 1.0
    assert set(report.scores) == set(SKILLS)
    assert all(score == Score(20, 20) for score in report.scores.values())
    assert all(set(langs) == {"zh", "en"} for langs in report.languages.values())
    assert len(report.answers) == 2 * 2 * len(SKILLS)


def test_the_right_answers_without_an_end_are_wrong(asked, answer):
    report = evaluate(Answers(answer, stop_reason="length"), Characters(), asked)
    assert report.macro == 0.0
    assert report.stopped == 0.0


@pytest.mark.parametrize(
    "said", ["", "I am a cat.", "1", "the", "是的。", "42 42 42 42", "<tool_call>\n{}\n</tool_call>"]
)
def test_one_answer_to_everything_is_wrong(asked, said):
    assert evaluate(Answers(lambda messages: said), Characters(), asked).macro < 0.05


def test_the_answer_to_another_question_is_wrong(asked, answer):
    prompts = [question.prompt for question in asked]
    following = {json.dumps(a): b for a, b in zip(prompts, prompts[7:] + prompts[:7])}
    report = evaluate(Answers(lambda messages: answer(following[json.dumps(messages)])), Characters(), asked)
    assert report.macro < 0.25  # some answers, such as the number of legs, are right for several questions


def test_repeating_the_question_is_wrong(asked):
    assert evaluate(Answers(lambda messages: messages[-1]["content"]), Characters(), asked).macro < 0.05


def q(check: str, *gt: str, count: int = 0) -> Question:
    return Question("test", "en", [user("?")], list(gt), check, count)


CALL = json.dumps({"name": "get_weather", "arguments": {"city": "Rome"}})


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (q("answer", "The capital of France is Paris.", "Paris"), "the capital of France is Paris", True),
        (q("answer", "The capital of France is Paris.", "Paris"), "Paris!", True),
        (q("answer", "The capital of France is Paris.", "Paris"), "It is Paris.", True),
        (q("answer", "The capital of France is Paris.", "Paris"), "Paris is not it.", False),
        (q("answer", "The capital of France is Paris.", "Paris"), "Rome. Paris.", False),
        (q("answer", "Paris"), "Rome, " * 40 + "Paris", False),
        (q("answer", "85"), "47 + 38 = 85", True),
        (q("answer", "85"), "４７ ＋ ３８ ＝ ８５。", True),
        (q("answer", "85"), "47 + 38 = 185", False),
        (q("answer", "85"), "47 + 38 = -85", False),
        (q("answer", "85"), "47 + 38 = 0.85", False),
        (q("answer", "85"), "47 + 38 = 850", False),
        (q("answer", "5"), "55 - 50 = 5", True),
        (q("answer", "5"), "55 - 50 = 15", False),
        (q("answer", "法国的首都是巴黎。", "巴黎"), "法国的首都是巴黎", True),
        (q("answer", "法国的首都是巴黎。", "巴黎"), "首都在巴黎。", True),
        (q("answer", "京"), "北京", False),
        (q("answer", "“大”的反义词是“小”。", "小"), '"大"的反义词是「小」', True),
        (q("answer", "“大”的反义词是“小”。", "小"), "“大”的反义词是“大小”。", False),
        (q("exact", "3 2 1"), "3 2 1", True),
        (q("exact", "3 2 1"), " 3  2 1.\n", True),
        (q("exact", "3 2 1"), "4 3 2 1", False),
        (q("exact", "3 2 1"), "The answer is 3 2 1", False),
        (q("states", "sunny", "23"), "It is sunny in Rome, 23 degrees.", True),
        (q("states", "sunny", "23"), "It is sunny in Rome, 123 degrees.", False),
        (q("states", "sunny", "23"), "It is 23 degrees.", False),
        (q("states", "5"), "It is 14:5 or 1.5.", False),
        (q("states", "晴", "23"), "罗马天气晴，23 度。", True),
        (q("states", "晴", "23"), "罗马天气晴，23度。", True),
        (q("states", "14:35"), "It is 14:35 in Rome.", True),
        (q("tool_call", CALL), f"<tool_call>\n{CALL}\n</tool_call>", True),
        (q("tool_call", CALL), '<tool_call>{"arguments":{"city":"Rome"},"name":"get_weather"}</tool_call>', True),
        (q("tool_call", CALL), f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>", False),
        (q("tool_call", CALL), CALL, False),
        (q("tool_call", CALL), f"<tool_call>\n{CALL.replace('Rome', 'rome')}\n</tool_call>", False),
        (q("tool_call", CALL), '<tool_call>\n{"name": "get_weather", "arguments"\n</tool_call>', False),
        (q("tool_call", CALL), '<tool_call>\n["get_weather"]\n</tool_call>', False),
        (q("answer", "Rome"), f"<tool_call>\n{CALL}\n</tool_call>Rome", False),
        (q("list", "cat", "dog", "cow", count=2), "dog, cat", True),
        (q("list", "cat", "dog", "cow", count=2), "Dog and cat.", True),
        (q("list", "cat", "dog", "cow", count=2), "dog, cat, cow", False),
        (q("list", "cat", "dog", "cow", count=2), "dog, dog", False),
        (q("list", "cat", "dog", "cow", count=2), "dog, car", False),
        (q("list", "猫", "狗", "牛", count=3), "狗、猫、牛", True),
        (q("list", "猫", "狗", "牛", count=3), "狗，猫和牛。", True),
        (q("sentence", "cat", "mammal"), "A cat is a mammal.", True),
        (q("sentence", "cat", "mammal"), "A cat is a mammal. It has 4 legs.", False),
        (q("sentence", "cat", "mammal"), "A cat is a mammal", False),
        (q("sentence", "cat", "mammal"), "A mammal.", False),
        (q("sentence", "猫", "哺乳动物"), "猫属于哺乳动物。", True),
        (q("exact", "5"), "<think>\none, two\n</think>\n\n5", True),
        (q("exact", "5"), "<think>\n\n</think>\n\n6", False),
    ],
)
def test_grading(question, text, right):
    assert grade(question, text) is right


def test_an_unknown_check_is_a_bug():
    with pytest.raises(ValueError, match="no such check"):
        grade(q("magic", "1"), "1")


def test_wilson_interval():
    # 8 of 10: 0.490 to 0.943 (Brown, Cai and DasGupta 2001 give the formula; worked by hand).
    low, high = Score(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert Score(0, 20).interval[0] == pytest.approx(0.0, abs=1e-9)
    assert Score(20, 20).interval[1] == pytest.approx(1.0, abs=1e-9)
    assert Score(0, 20).interval[1] == pytest.approx(1 - Score(20, 20).interval[0])


def test_macro_average_weighs_skills_equally():
    report = SkillReport({"a": Score(10, 10), "b": Score(0, 90)}, {"a": {}, "b": {}}, 1.0)
    assert report.macro == 0.5
    low, high = report.macro_interval
    assert low == pytest.approx(0.5 - (1 - Score(10, 10).interval[0]) / 2)
    assert high == pytest.approx(0.5 + Score(0, 90).interval[1] / 2)


def test_macro_interval_narrows_with_skills():
    one = SkillReport({"a": Score(60, 100)}, {"a": {}}, 1.0)
    four = SkillReport({name: Score(60, 100) for name in "abcd"}, {name: {} for name in "abcd"}, 1.0)
    width = one.macro_interval[1] - one.macro_interval[0]
    assert one.macro_interval == pytest.approx(Score(60, 100).interval)
    assert four.macro_interval[1] - four.macro_interval[0] == pytest.approx(width / math.sqrt(4))


def test_report_as_dict_and_table(asked, answer):
    report = evaluate(Answers(answer), Characters(), asked)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["macro"]["accuracy"] == 1.0
    assert data["skills"]["facts"]["languages"]["zh"] == Score(10, 10).to_dict()
    rows = report.rows()
    assert rows[0] == ("skill", "accuracy", "95% interval", "en", "zh", "questions")
    assert rows[1][:2] == ("identity", "100.0%")
    assert rows[-1][0] == "mean"
    assert rows[-1][-1] == str(len(asked))
    assert {len(row) for row in rows} == {6}


def test_sample_dialogues_go_on_with_the_models_own_answers():
    engine = Answers(lambda messages: f"answer {len(messages)}")
    talks = sample_dialogues(engine, Characters())
    assert [[m["content"] for m in talk if m["role"] == "user"] for talk in talks] == [
        list(said) for said in DIALOGUES
    ]
    assert [m["content"] for m in talks[0] if m["role"] == "assistant"] == ["answer 1", "answer 3", "answer 5"]
    assert engine.batches == 3
