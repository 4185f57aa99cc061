"""The interface in two languages: English in the code, Chinese here."""

from __future__ import annotations

import streamlit as st

LANGUAGES = {"en": "English", "zh": "中文"}


def language() -> str:
    """ "en" or "zh": what the visitor chose, else what the browser prefers."""
    chosen = st.session_state.get("lang")
    return chosen if chosen in LANGUAGES else "zh" if (st.context.locale or "").startswith("zh") else "en"


def say(english: str, **values: object) -> str:
    """The text in the visitor's language, its {names} filled in."""
    text = CHINESE[english] if language() == "zh" else english
    return text.format(**values) if values else text


def translated(name: str) -> str:
    """A name that a program may have chosen in the visitor's language, where that has one for it."""
    return CHINESE.get(name, name) if language() == "zh" else name


CHINESE = {
    # pages
    "Chat": "对话",
    "Runs": "训练",
    "Data": "数据",
    "Models": "模型",
    "No model in {place} yet. `minimind quickstart` makes one.": (
        "{place} 里还没有模型，运行 `minimind quickstart` 即可得到。"
    ),
    "No run in {place} yet. `minimind quickstart` makes one.": (
        "{place} 里还没有训练，运行 `minimind quickstart` 即可开始。"
    ),
    # chat
    "What shall we talk about?": "想聊点什么？",
    "Say something": "说点什么",
    "Stop": "停止",
    "Edit": "编辑",
    "Your message": "你的消息",
    "Ask again": "重新提问",
    "Answer again": "重新回答",
    "Cancel": "取消",
    "Thinking": "思考过程",
    "reading …": "正在读题……",
    "{tokens} tokens, {rate} tokens/s": "{tokens} 个 token，每秒 {rate} 个",
    "cut off: it reached its longest length": "已达到长度上限，回答被截断",
    "cut off: it repeated itself": "不断重复，回答被截断",
    "Choose at least one model in the side bar.": "请在侧边栏至少选择一个模型。",
    "System message": "系统提示",
    "Think first": "先思考再回答",
    "Show probabilities": "显示概率",
    "Tools": "工具",
    "A server's models": "服务器上的模型",
    "Address": "地址",
    "API key, if it wants one": "API 密钥（如需要）",
    "Sampling": "采样",
    "Seed (empty: a new one)": "随机种子（留空则每次不同）",
    "Temperature": "温度",
    "Top-k (0: all)": "Top-k（0 为不限）",
    "Repetition penalty": "重复惩罚",
    "Longest answer (tokens)": "回答最长（token 数）",
    "New conversation": "新对话",
    "{name} (base)": "{name}（基座）",
    "A base model was only pretrained: it goes on with a text and does not answer.": (
        "基座模型只做过预训练：它只会续写文字，不会回答问题。"
    ),
    "This conversation was deleted, is damaged, or is another browser's.": (
        "这段对话已删除、已损坏，或属于另一个浏览器。"
    ),
    "Not kept: {why}": "未能保存：{why}",
    "(damaged)": "（已损坏）",
    "Name": "名称",
    "Export as Markdown": "导出为 Markdown",
    "Export as training data": "导出为训练数据",
    "Delete": "删除",
    "Copy": "复制",
    "none": "无",
    "Copied": "已复制",
    # runs
    "Runs to look at": "要查看的训练",
    "Choose at least one run.": "请至少选择一次训练。",
    "No figures yet; the first come after a few steps.": "还没有数据，训练几步之后就会出现。",
    "Held-out score": "留出题得分",
    "Reward": "奖励",
    "mean": "平均",
    "whole": "总奖励",
    "Groups whose answers differ in reward": "得分有高有低的组",
    "Loss": "损失",
    "Held-out bits per byte": "留出集每字节比特数",
    "KL divergence (nats)": "KL 散度（nat）",
    "from the start": "与起始模型之间",
    "within a rollout": "同一次采样之内",
    "Entropy (nats)": "熵（nat）",
    "Length of an answer (tokens)": "回答长度（token）",
    "Clip fraction": "裁剪比例",
    "Seconds per step": "每步用时（秒）",
    "rollout": "采样",
    "update": "更新",
    "Learning rate": "学习率",
    "Gradient norm": "梯度范数",
    "Tokens per second": "每秒 token 数",
    "training": "训练集",
    "held-out": "留出集",
    "running": "进行中",
    "finished": "已完成",
    "stopped": "已停止",
    "failed": "失败",
    "interrupted": "被中断",
    "damaged": "已损坏",
    "steps": "步数",
    "tokens": "token",
    "loss": "损失",
    "bits per byte": "每字节比特数",
    "reward": "奖励",
    "held-out score": "留出题得分",
    "tokens/s": "token/秒",
    "time": "用时",
    "size": "大小",
    "What differs": "设置上的差别",
    "The settings are the same.": "设置完全相同。",
    "Samples while it learned": "学习过程中的样例",
    "Prompt": "提示",
    "step {step}": "第 {step} 步",
    "Settings and report": "设置与报告",
    "Download the report": "下载报告",
    "directory": "目录",
    "started": "开始时间",
    "command": "命令",
    # data
    "File: choose one, or type a path": "文件：从列表中选，或输入路径",
    "Tokenizer of": "用哪个模型的分词器",
    "Type the path of a data file above.": "请在上面输入数据文件的路径。",
    "There is no document among the first {count} lines.": "前 {count} 行里没有可用的文档。",
    "What the model learns": "模型学什么",
    "Document": "文档",
    "line {line}": "第 {line} 行",
    "{tokens} tokens, {learned} of them learned": "共 {tokens} 个 token，其中 {learned} 个参与训练",
    "text": "文本",
    "prompt": "提示",
    "chat": "对话",
    "chosen": "较好的回答",
    "rejected": "较差的回答",
    "learned": "参与训练",
    "only read": "只读不学",
    "control token": "控制 token",
    "How they are packed": "怎样打包成序列",
    "Sequence length": "序列长度",
    "documents": "文档",
    "segments": "段",
    "sequences": "序列",
    "padding": "填充",
    "padding, one document a sequence": "若每条序列只放一个文档，填充",
    "document {number}: {length} tokens": "文档 {number}：{length} 个 token",
    "{shown} of {total} sequences, from the first {count} lines": (
        "文件前 {count} 行打包成 {total} 条序列，此处为前 {shown} 条"
    ),
    # models
    "Model or preset": "模型或预设",
    "parameters": "参数量",
    "active for a token": "每个 token 用到",
    "weights, fp32": "权重（fp32）",
    "weights, bf16": "权重（bf16）",
    "cache per token, bf16": "每 token 缓存（bf16）",
    "context": "上下文",
    "From token to token": "从 token 到 token",
    "Where the parameters are": "参数都在哪里",
    "All settings": "全部设置",
    "embedding": "词嵌入",
    "attention": "注意力",
    "feed-forward": "前馈网络",
    "feed forward": "前馈网络",
    "mixture of experts": "混合专家",
    "experts": "专家",
    "shared experts": "共享专家",
    "router": "路由",
    "score": "打分头",
    "norms": "归一化",
    "output": "输出",
    "the embedding again": "复用词嵌入",
    "{count} layers, each added to what came before": "共 {count} 层，每一步都加回残差",
    "{heads} heads, {kv} for keys": "{heads} 个头，{kv} 个键值头",
    "{count} experts, {used} used": "{count} 个专家，选用 {used} 个",
    "Attention": "注意力",
    "Text to read": "让模型读的文字",
    "The cat sat on the mat because it was tired.": "小猫坐在垫子上，因为它累了。",
    "Loading the model …": "正在载入模型……",
    "layer": "层",
    "head": "头",
    "looks at": "看向",
    "token": "token",
}
