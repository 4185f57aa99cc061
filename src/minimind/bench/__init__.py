"""What this machine can do: matrix products and memory, training steps, reading data."""
