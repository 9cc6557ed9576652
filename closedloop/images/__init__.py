"""Images: sets of them, their size, their 8 bits, and how natural they look."""
