"""The closed loop: threads, sessions, and what commits them."""
