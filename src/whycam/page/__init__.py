"""The local page: a server on this machine, and the page that it hands out (`static/`)."""
