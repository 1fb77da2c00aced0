"""How many chunks have come back, told to whoever walks a source; it imports nothing, for a process of its own."""


class Gate:
    """An actor on Ray."""

    def __init__(self) -> None:
        self.passed = 0

    def say(self, passed: int) -> None:
        """So many have come back."""
        self.passed = passed

    def ask(self) -> int:
        """How many have come back."""
        return self.passed
