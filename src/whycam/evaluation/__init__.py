"""Whether maps can be trusted: metrics over methods, layers and images, beside controls."""
