"""Whole image sets: explained as fast as the network predicts, in constant memory, each image exactly once."""
