"""Reading binaries and modelling the dynamic loader. Knows nothing of torch."""
