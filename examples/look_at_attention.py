"""Who looks at whom: for every word of a sentence, the earlier words that each head attends to most.

python examples/look_at_attention.py runs/quickstart/chat "The cat sat on the mat because it was tired."
"""

import argparse

from minimind import Model
from minimind.model.attention_maps import attention_maps

parser = argparse.ArgumentParser(description="Show what the heads of a layer attend to.")
parser.add_argument("model", help="a model or run directory")
parser.add_argument("sentence")
parser.add_argument("--layer", type=int, default=-1, help="from 0; default: the last")
options = parser.parse_args()

model = Model.load(options.model)
ids = [model.tokenizer.bos_id, *model.tokenizer.encode(options.sentence)]
maps_HTT = attention_maps(model.model, ids)[options.layer]
words = [model.tokenizer.decode([one], skip_special=False) for one in ids]

for head, map_TT in enumerate(maps_HTT):
    print(f"head {head}")
    for t, word in enumerate(words[1:], start=1):
        weights, places = map_TT[t, : t + 1].topk(min(3, t + 1))
        looks = ", ".join(f"{words[s]!r} {weight:.0%}" for weight, s in zip(weights, places))
        print(f"  {word!r:>14} looks at {looks}")
