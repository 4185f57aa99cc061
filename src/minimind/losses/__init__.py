"""What is minimised, in plain PyTorch."""
