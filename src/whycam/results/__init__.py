"""What callers get: frozen values that draw and save themselves."""
