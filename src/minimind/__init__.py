"""MiniMind: train a small GPT from zero, in hours, on one machine, and understand every line.

from minimind import Model

model = Model.load("runs/quickstart/chat")
print(model.chat([{"role": "user", "content": "What is 17 + 25?"}])["content"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimind.api import Model

__version__ = "0.1.0"
__all__ = ["Model", "__version__"]


def __getattr__(name: str) -> Any:
    """`Model` on first use: importing the package alone must not import torch."""
    if name == "Model":
        from minimind.api import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
