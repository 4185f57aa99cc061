"""What comes next: the likeliest tokens after a text, and how the temperature changes their chances.

python examples/next_word.py runs/quickstart/base "The capital of Japan is"
"""

import argparse

import torch

from minimind import Model

parser = argparse.ArgumentParser(description="Show the likeliest next tokens.")
parser.add_argument("model", help="a model or run directory")
parser.add_argument("text")
parser.add_argument("--temperatures", type=float, nargs="+", default=[0.5, 1.0, 2.0])
options = parser.parse_args()

model = Model.load(options.model)
ids = [model.tokenizer.bos_id, *model.tokenizer.encode(options.text)]
logits_V = model.logits(ids)[-1]
chances = {t: (logits_V / t).softmax(-1) for t in options.temperatures}

print(f"{'token':>16}", *(f"T = {t:g}".rjust(10) for t in chances))
for token in torch.topk(logits_V, 8).indices.tolist():
    shown = repr(model.tokenizer.decode([token], skip_special=False))
    print(f"{shown:>16}", *(f"{p_V[token].item():10.1%}" for p_V in chances.values()))
score = model.score(options.text)
print(f"the text itself takes {score['bits_per_byte']:.2f} bits per byte")
