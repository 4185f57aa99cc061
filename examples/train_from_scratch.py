"""A language model from nothing in a plain loop: data, model, loss, optimizer, and what it says at the end.

    python examples/train_from_scratch.py my-text.txt --steps 300

`minimind train` does the same with everything that a real training needs. Here is only what a lesson needs.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from minimind.model import ModelConfig, Transformer
from minimind.tokenizer.train import train

parser = argparse.ArgumentParser(description="Train a tiny model on a text file.")
parser.add_argument("text", type=Path)
parser.add_argument("--steps", type=int, default=300)
options = parser.parse_args()

text = options.text.read_text(encoding="utf-8")
tokenizer = train(text.splitlines(keepends=True), vocab_size=1000)
ids = torch.tensor(tokenizer.encode(text))
model = Transformer(
    ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)

T, B = min(64, len(ids) - 1), 16  # positions of a sequence, sequences of a step
for step in range(1, options.steps + 1):
    starts_B1 = torch.randint(len(ids) - T, (B, 1))
    pieces_BT = ids[starts_B1 + torch.arange(T + 1)]  # one more than T: the last one is only predicted
    logits_BTV = model.logits(model(pieces_BT[:, :-1]))
    loss = F.cross_entropy(logits_BTV.flatten(0, 1), pieces_BT[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0 or step in (1, options.steps):
        print(f"step {step}: loss {loss.item():.3f}")

said = ids[:1].tolist()
for _ in range(40):  # each next token is drawn from what the model expects
    logits_V = model.logits(model(torch.tensor([said[-T:]])))[0, -1]
    said.append(int(torch.multinomial(logits_V.softmax(-1), 1)))
print(tokenizer.decode(said))
