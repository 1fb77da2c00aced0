"""One file per method, named as the function in it. A file put here is registered; there is no list to edit."""
