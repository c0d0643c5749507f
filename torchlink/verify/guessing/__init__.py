"""Working out inputs that a model's `forward` takes, from its graph and its parameters."""
