"""What this machine has for building against libtorch, what fits what, and what is missing."""
