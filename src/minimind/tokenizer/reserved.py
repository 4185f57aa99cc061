"""The 36 reserved tokens, ids 0 to 35: MiniMind's published table, so that its weights and data fit ours."""

PAD, BOS, EOS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# Left out when text is decoded for a reader: turn borders and the places of images, sound and speech.
SPECIAL = [
    PAD,
    BOS,
    EOS,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
]

# Single tokens too, but part of the text a program reads: thinking, tool calls, and nine free places.
MARKERS = [
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    *(f"<|buffer{number}|>" for number in range(1, 10)),
]

RESERVED = SPECIAL + MARKERS
