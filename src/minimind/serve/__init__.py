"""The OpenAI-compatible server: FastAPI in front, one thread with the engine behind."""
