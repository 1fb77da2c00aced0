"""One pass over a network, kept as plain tensors."""
