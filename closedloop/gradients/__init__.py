"""Gradients through subject and generator: for the methods that are compared with evolution. Needs torch."""
