"""What is minimized, in plain PyTorch."""
