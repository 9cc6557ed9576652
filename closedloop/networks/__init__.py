"""What networks run on: engines, weights, and torch modules that are left as they were found."""
