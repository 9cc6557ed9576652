"""What remains of an experiment: written generation by generation, read at any time."""
