"""Every model that whycam should explain without being told anything, one after the other."""
