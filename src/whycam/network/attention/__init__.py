"""What attention does in a pass: captured, placed on the input's positions, and folded block by block."""
