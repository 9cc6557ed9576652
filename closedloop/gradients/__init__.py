"""What gradients need on their way from responses to codes. With torch; the core runs without."""
