"""Single words from Chinese to English and back, asked in either language. The answer is the bare word."""

from __future__ import annotations

from minimind.world.rng import Rng
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.openings import opening
from minimind.world.tables import listed
from minimind.world.tables.words import WORDS

# (language of the question, language of the answer): wordings for training, wordings kept for evaluation
ASKED = {
    ("en", "zh"): (
        listed("""
            How do you say "{w}" in Chinese?; What is "{w}" in Chinese?; Translate "{w}" into Chinese.
            What is the Chinese word for "{w}"?; {w} in Chinese?; Tell me the Chinese for "{w}".
            Say "{w}" in Chinese.; Do you know the Chinese word for "{w}"?; Give me the Chinese word for "{w}".
            Which Chinese word means "{w}"?; Into Chinese: {w}
        """),
        listed("""
            Can you say "{w}" in Chinese?; Please translate the word "{w}" into Chinese.
            I forgot the Chinese word for "{w}". What is it?; How would you say "{w}" in Chinese?
        """),
    ),
    ("en", "en"): (
        listed("""
            How do you say “{w}” in English?; What is “{w}” in English?; Translate “{w}” into English.
            What is the English word for “{w}”?; {w} in English?; Tell me the English for “{w}”.
            What does “{w}” mean?; Do you know the English word for “{w}”?
            Give me the English word for “{w}”.; Which English word means “{w}”?; Into English: {w}
        """),
        listed("""
            Can you say “{w}” in English?; Please translate the word “{w}” into English.
            I forgot the English word for “{w}”. What is it?; How would you say “{w}” in English?
        """),
    ),
    ("zh", "en"): (
        listed("""
            “{w}”用英语怎么说？; “{w}”的英文是什么？; 把“{w}”翻译成英文。; 请把“{w}”翻译成英语。
            “{w}”的英语单词是什么？; {w}的英文？; 告诉我“{w}”的英文。; 英语里“{w}”怎么说？
            你知道“{w}”的英文吗？; 用英文说“{w}”。; 翻译成英文：{w}
        """),
        listed("""
            你能把“{w}”翻译成英文吗？; 我忘了“{w}”的英文，请问是什么？; “{w}”这个词用英文怎么说？
            请问英文里“{w}”是哪个词？
        """),
    ),
    ("zh", "zh"): (
        listed("""
            “{w}”用中文怎么说？; “{w}”的中文是什么？; 把“{w}”翻译成中文。; 请把“{w}”翻译成汉语。
            “{w}”是什么意思？; {w} 的中文？; 告诉我“{w}”的中文。; 中文里“{w}”怎么说？
            你知道“{w}”的中文吗？; 用中文说“{w}”。; 翻译成中文：{w}
        """),
        listed("""
            你能把“{w}”翻译成中文吗？; 我忘了“{w}”的中文，请问是什么？; “{w}”这个词用中文怎么说？
            请问中文里“{w}”是哪个词？
        """),
    ),
}


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    english, chinese = rng.pick(WORDS)
    target = rng.pick(("zh", "en"))
    word, answer = (english, chinese) if target == "zh" else (chinese, english)
    question = opening(rng, lang, 0.2) + rng.pick(ASKED[lang, target][held_out]).format(w=word)
    return Sample("translation", lang, [user(question), assistant(answer)], [answer])
