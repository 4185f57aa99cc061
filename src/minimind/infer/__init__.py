"""Generation: the engine, the sampler, incremental text and conversations."""
