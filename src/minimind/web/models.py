"""The page of models: what a shape consists of, and where the heads of a model look."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import streamlit as st
import torch
from PIL import Image

from minimind.model import ModelConfig
from minimind.model.attention_maps import attention_maps
from minimind.model.hf.config import read_config
from minimind.plan.memory import describe
from minimind.presets import PRESETS
from minimind.runs.read import default_directory
from minimind.util.units import size_text
from minimind.web import markup
from minimind.web.charts import heat_map
from minimind.web.i18n import say
from minimind.web.library import find_models, load

MOST_TOKENS = 48  # of a prompt whose attention is drawn


def page() -> None:
    st.title(say("Models"))
    models = find_models(default_directory())
    name = st.selectbox(say("Model or preset"), [*models, *PRESETS], key="model", persist_state="session")
    if name in models:
        show_shape(read_config(models[name]))
        show_attention(models[name])
    elif name:
        show_shape(PRESETS[name])


def show_shape(config: ModelConfig) -> None:
    """Parameters, memory, the parts in order, and all settings."""
    described = describe(config)
    counts, taken = described["parameters"], described["memory"]
    facts = {
        say("parameters"): f"{counts['total']:,}",
        say("active for a token"): f"{counts['active']:,}",
        say("weights, fp32"): size_text(taken["weights"]["fp32"]),
        say("weights, bf16"): size_text(taken["weights"]["bf16"]),
        say("cache per token, bf16"): size_text(taken["kv_cache_per_token"]["bf16"]),
        say("context"): f"{config.context_length:,}",
    }
    st.html(markup.cards(facts))
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader(say("From token to token"))
        st.html(architecture(config))
    with right:
        st.subheader(say("Where the parameters are"))
        parts = [(say(part.replace("_", " ")), count) for part, count in counts["parts"].items()]
        st.html(markup.shares((part, count / counts["total"], f"{count:,}") for part, count in parts))
        with st.expander(say("All settings")):
            st.html(markup.table([[key, value] for key, value in described["config"].items() if value is not None]))


def architecture(config: ModelConfig) -> str:
    """The parts of a model in order, each with its shape."""
    D, V = config.hidden_size, config.vocab_size
    norm = "q, k: RMSNorm · " if config.family.qk_norm else ""
    heads = say("{heads} heads, {kv} for keys", heads=config.num_attention_heads, kv=config.num_key_value_heads)
    if config.family.experts:
        experts = say("{count} experts, {used} used", count=config.num_experts, used=config.num_experts_per_tok)
        feed_forward = (say("mixture of experts"), f"{experts} · SwiGLU")
    else:
        feed_forward = (say("feed-forward"), f"SwiGLU {D} → {config.intermediate_size} → {D}")
    layer = [("RMSNorm", f"{D}"), (say("attention"), f"{heads} · {norm}RoPE"), ("RMSNorm", f"{D}"), feed_forward]
    tied = say("the embedding again") if config.tie_word_embeddings else f"{D} → {V:,}"
    parts = [(say("embedding"), f"{V:,} → {D}"), ("RMSNorm", f"{D}"), (say("output"), tied)]
    return markup.stack(
        parts, layer, say("{count} layers, each added to what came before", count=config.num_hidden_layers)
    )


def show_attention(path: Path) -> None:
    """Where each head looks when the model reads a text: all heads small, and one large."""
    st.subheader(say("Attention"))
    prompt = st.text_input(say("Text to read"), say("The cat sat on the mat because it was tired."), key="prompt")
    if not prompt:
        return
    with st.spinner(say("Loading the model …")):
        loaded = load(path)
    tokenizer = loaded.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode(prompt)][:MOST_TOKENS]
    with loaded.engine.lock:
        maps_LHTT = attention_maps(loaded.model, ids)
    layers, num_heads = maps_LHTT.shape[:2]
    left, right = st.columns(2, gap="large")
    with left:
        st.html(markup.heads([[picture(head) for head in layer] for layer in maps_LHTT], say("layer"), say("head")))
    with right:
        with st.container(horizontal=True):
            layer = st.number_input(say("layer"), 0, layers - 1, key="layer")
            head = st.number_input(say("head"), 0, num_heads - 1, key="head")
        labels = [markup.visible(tokenizer.decode([token], skip_special=False)) for token in ids]
        chart = heat_map(maps_LHTT[layer, head].tolist(), labels, say("looks at"), say("token"))
        st.altair_chart(chart, width="stretch", key="attention")


def picture(weights_TT: torch.Tensor) -> str:
    """A head as a picture of one pixel a weight: its root as opacity, since most weights are small."""
    pixels = np.zeros((*weights_TT.shape, 4), np.uint8)
    pixels[..., :3] = (15, 157, 132)
    pixels[..., 3] = (weights_TT.sqrt() * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
