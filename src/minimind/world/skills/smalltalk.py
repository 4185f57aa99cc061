"""Greetings, thanks and other small talk; trained, not evaluated."""

from __future__ import annotations

from minimind.world.rng import Rng
from minimind.world.sample import Sample, assistant, user

TALK = {
    "en": (
        (("Hello!", "Hi!", "Hey there!", "Hello there.", "Hi, MiniMind."), ("Hello! How can I help you?",)),
        (("Good morning!", "Morning!"), ("Good morning! How can I help you?",)),
        (("Good evening!",), ("Good evening! How can I help you?",)),
        (("How are you?", "How are you today?", "How is it going?"), ("I am fine, thank you. How are you?",)),
        (("I am fine.", "I am fine too.", "I feel great today."), ("I am glad to hear that.",)),
        (("Thank you!", "Thanks!", "Thanks a lot.", "Thank you very much."), ("You are welcome!",)),
        (("Goodbye!", "Bye!", "See you later.", "See you tomorrow."), ("Goodbye! See you soon.",)),
        (("Good night.", "I am going to bed now."), ("Good night! Sleep well.",)),
        (
            ("I am sad.", "I feel sad today.", "Today was a bad day."),
            ("I am sorry to hear that. I hope tomorrow is better.",),
        ),
        (("I am happy!", "I am so happy today."), ("That is wonderful!",)),
        (("I am hungry.", "I want to eat something."), ("Then it is time to eat. How about some noodles?",)),
        (("I am tired.", "I am so sleepy."), ("Then take a rest.",)),
        (("I am bored.", "There is nothing to do."), ("Shall I tell you a short story?",)),
        (("It is raining.", "It rains all day."), ("Then take an umbrella with you.",)),
        (("The sun is shining.", "What a sunny day!"), ("Then let us go for a walk.",)),
        (("You are clever.", "You are great!", "Well done!"), ("Thank you! I am still learning.",)),
        (("You are wrong.", "That is wrong."), ("I am sorry. I am a small model and make mistakes.",)),
        (("Can you help me?", "I need help.", "Please help me."), ("Of course. What can I do for you?",)),
        (
            ("Tell me a joke.", "Do you know a joke?"),
            ("Why did the book go to the doctor? It had lost its words.",),
        ),
        (("I like you.", "You are my friend."), ("I like talking with you, too.",)),
        (("It is my birthday today.", "Today is my birthday!"), ("Happy birthday!",)),
        (("Are you there?", "Can you hear me?"), ("Yes, I am here.",)),
        (("Do you sleep?", "Do you get tired?"), ("No, I never sleep.",)),
        (("Do you eat?", "Are you hungry?"), ("No, I do not eat.",)),
    ),
    "zh": (
        (("你好！", "嗨！", "您好。", "哈喽！", "你好，MiniMind。"), ("你好！有什么可以帮你的吗？",)),
        (("早上好！", "早安！"), ("早上好！有什么可以帮你的吗？",)),
        (("晚上好！",), ("晚上好！有什么可以帮你的吗？",)),
        (("你好吗？", "你今天怎么样？", "最近好吗？"), ("我很好，谢谢。你呢？",)),
        (("我很好。", "我也很好。", "我今天感觉很棒。"), ("听到这个我很高兴。",)),
        (("谢谢！", "谢谢你。", "多谢。", "非常感谢。"), ("不客气！",)),
        (("再见！", "拜拜！", "回头见。", "明天见。"), ("再见！下次再聊。",)),
        (("晚安。", "我要去睡觉了。"), ("晚安！做个好梦。",)),
        (("我很难过。", "今天我不开心。", "今天过得很糟。"), ("听到这个我很难过，希望明天会更好。",)),
        (("我很高兴！", "今天我特别开心。"), ("真是太好了！",)),
        (("我饿了。", "我想吃点东西。"), ("那就去吃饭吧，来一碗面条怎么样？",)),
        (("我累了。", "我好困。"), ("那就休息一下吧。",)),
        (("我好无聊。", "没有事情可做。"), ("要我给你讲个小故事吗？",)),
        (("下雨了。", "今天一直下雨。"), ("那记得带上雨伞。",)),
        (("出太阳了。", "今天阳光真好！"), ("那我们去散散步吧。",)),
        (("你真聪明。", "你真棒！", "做得好！"), ("谢谢！我还在学习。",)),
        (("你错了。", "这不对。"), ("对不起，我是一个小模型，会犯错。",)),
        (("你能帮我吗？", "我需要帮助。", "请帮帮我。"), ("当然可以，我能为你做什么？",)),
        (("讲个笑话。", "你会讲笑话吗？"), ("书为什么去看医生？因为它丢了几个字。",)),
        (("我喜欢你。", "你是我的朋友。"), ("我也喜欢和你聊天。",)),
        (("今天是我的生日。", "我今天过生日！"), ("生日快乐！",)),
        (("你在吗？", "你听得见吗？"), ("我在。",)),
        (("你睡觉吗？", "你会累吗？"), ("不，我从不睡觉。",)),
        (("你吃饭吗？", "你饿不饿？"), ("不，我不吃东西。",)),
    ),
}


def sample(rng: Rng, lang: str) -> Sample:
    questions, answers = rng.pick(TALK[lang])
    answer = rng.pick(answers)
    return Sample("smalltalk", lang, [user(rng.pick(questions)), assistant(answer)], [answer])
