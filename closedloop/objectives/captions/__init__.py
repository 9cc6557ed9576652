"""Captions as objectives."""
