"""One file for each form of model spec. A file put here is found by `whycam.load`; there is no list to edit."""
