"""What a model is asked: by the embedded world, by files or by an environment."""
