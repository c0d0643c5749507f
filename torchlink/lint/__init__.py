"""Rules over the closure of a built binary."""
