"""The model: configuration, network, weights on disk."""

from minimind.model.config import ModelConfig
from minimind.model.hf.weights import load_model, save_model
from minimind.model.transformer import Transformer

__all__ = ["ModelConfig", "Transformer", "load_model", "save_model"]
