"""Which layer to explain, and where in the input its positions lie."""
