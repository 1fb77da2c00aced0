"""Every model that whycam should explain without being told anything, run one after the other (`python -m compatibility`)."""
