"""The fields that clients send and this server has no use for: which values ask for nothing, and so are accepted.

What it does have a use for is in schemas.py and parts.py. Together they are OpenAI's fields (of 2026-11) and those
of the dialects of vLLM, llama.cpp and Ollama. A value that is not listed asks for something that this server lacks:
it is refused by name. The table in docs/*/serve.md has the same rows, by test.
"""

from __future__ import annotations

import json
from typing import Any

ANY = None  # every value: hints, and settings of what is refused itself
OFF = (False,)
EMPTY: tuple[Any, ...] = ("", [], {})

Rows = dict[str, tuple[Any, ...] | None]

OPENAI: Rows = {
    "audio": EMPTY,
    "metadata": ANY,
    "modalities": (["text"],),
    "moderation": EMPTY,
    "prediction": EMPTY,
    "prompt_cache_key": ANY,
    "prompt_cache_options": ANY,
    "prompt_cache_retention": ANY,
    "safety_identifier": ANY,
    "service_tier": ("auto", "default"),
    "store": OFF,
    "suffix": EMPTY,
    "user": ANY,
    "verbosity": ("medium",),
    "web_search_options": EMPTY,
}
VLLM: Rows = {
    "allowed_token_ids": EMPTY,
    "bad_words": EMPTY,
    "cache_salt": ANY,
    "chat_template": EMPTY,
    "documents": EMPTY,
    "guided_choice": EMPTY,
    "guided_decoding_backend": ANY,
    "guided_grammar": EMPTY,
    "guided_regex": EMPTY,
    "guided_whitespace_pattern": EMPTY,
    "include_reasoning": (True,),
    "include_stop_str_in_output": OFF,
    "kv_transfer_params": EMPTY,
    "length_penalty": (1,),
    "logits_processors": EMPTY,
    "min_tokens": (0,),
    "mm_processor_kwargs": EMPTY,
    "priority": ANY,
    "prompt_logprobs": EMPTY,
    "request_id": ANY,
    "return_token_ids": OFF,
    "return_tokens_as_token_ids": OFF,
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": ANY,
    "structural_tag": EMPTY,
    "truncate_prompt_tokens": EMPTY,
    "use_beam_search": OFF,
    "vllm_xargs": EMPTY,
}
LLAMA_CPP: Rows = {
    "backend_sampling": ANY,
    "cache_prompt": ANY,
    "dry_allowed_length": ANY,
    "dry_base": ANY,
    "dry_multiplier": (0,),
    "dry_penalty_last_n": ANY,
    "dry_sequence_breakers": ANY,
    "dynatemp_exponent": ANY,
    "dynatemp_range": (0,),
    "grammar": EMPTY,
    "grammar_lazy": OFF,
    "id_slot": ANY,
    "image_data": EMPTY,
    "lora": EMPTY,
    "min_keep": (0, 1),
    "mirostat": (0,),
    "mirostat_eta": ANY,
    "mirostat_tau": ANY,
    "n_discard": ANY,
    "n_indent": (0,),
    "n_keep": ANY,
    "n_probs": (0,),
    "parse_tool_calls": (True,),
    "penalize_nl": ANY,
    "post_sampling_probs": OFF,
    "reasoning_format": ("auto", "deepseek"),
    "repeat_last_n": (-1, 64),
    "response_fields": EMPTY,
    "return_progress": OFF,
    "return_tokens": OFF,
    "samplers": EMPTY,
    "t_max_predict_ms": (-1, 0),
    "tfs_z": (1,),
    "thinking_forced_open": OFF,
    "timings_per_token": OFF,
    "top_n_sigma": (-1, 0),
    "typical_p": (1,),
    "xtc_probability": (0,),
    "xtc_threshold": ANY,
}
OLLAMA: Rows = {"format": EMPTY, "keep_alive": ANY, "options": EMPTY}

CHAT = OPENAI | VLLM | LLAMA_CPP | OLLAMA | {"echo": OFF}
COMPLETIONS = OPENAI | VLLM | LLAMA_CPP | OLLAMA  # clients that know both endpoints send their hints to either

RESPONSES: Rows = {
    "background": OFF,
    "context_management": EMPTY,
    "conversation": EMPTY,
    "max_tool_calls": ANY,
    "metadata": ANY,
    "moderation": EMPTY,
    "previous_response_id": EMPTY,
    "prompt": EMPTY,
    "prompt_cache_key": ANY,
    "prompt_cache_options": ANY,
    "prompt_cache_retention": ANY,
    "safety_identifier": ANY,
    "service_tier": ("auto", "default"),
    "store": ANY,
    "user": ANY,
}
RESPONSE_ITEM: Rows = {
    "caller": ANY,
    "encrypted_content": ANY,
    "id": ANY,
    "namespace": ANY,
    "phase": ANY,
    "status": ANY,
}
RESPONSE_PART: Rows = {"annotations": ANY, "logprobs": ANY, "prompt_cache_breakpoint": ANY}

STREAM_OPTIONS: Rows = {"continuous_usage_stats": OFF, "include_obfuscation": OFF}
MESSAGE: Rows = {
    "annotations": ANY,
    "audio": EMPTY,
    "cache_control": ANY,
    "id": ANY,
    "images": EMPTY,
    "name": ANY,
    "partial": ANY,
    "prefix": ANY,
    "provider_specific_fields": ANY,
    "reasoning_details": ANY,
    "refusal": EMPTY,
    "thinking_blocks": ANY,
    "tool_call_id": ANY,
    "type": ("text", "message"),
}
PART: Rows = {"annotations": ANY, "cache_control": ANY, "prompt_cache_breakpoint": ANY}
CALL: Rows = {"id": ANY, "index": ANY, "provider_specific_fields": ANY}
TOOL: Rows = {"cache_control": ANY, "strict": ANY}
STRUCTURED_OUTPUTS: Rows = {
    "choice": EMPTY,
    "disable_additional_properties": OFF,
    "disable_any_whitespace": ANY,
    "disable_fallback": ANY,
    "grammar": EMPTY,
    "regex": EMPTY,
    "structural_tag": EMPTY,
    "whitespace_pattern": EMPTY,
}
REASONING: Rows = {"exclude": OFF, "summary": ANY}


def lacks(name: str, value: Any, rows: Rows) -> str | None:
    """What is wrong with a field of `rows`; None where its value asks for nothing."""
    values = rows[name]
    if values is ANY:
        return None
    if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values):
        return None
    accepted = " or ".join(
        ["leave it out", *(f"send {json.dumps(one)}" for one in values if one or one in (0, False))]
    )
    return f"this server has nothing of the kind; {accepted}"
