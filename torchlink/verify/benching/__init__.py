"""How long a model's calls take: measured in the loader and in another run, and what of the settings explains it."""
