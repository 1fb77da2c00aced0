"""`python -m whycam` is the `whycam` command."""

from whycam.cli import main

if __name__ == "__main__":
    main()
