"""What a model file is, from its bytes, without unpickling."""
