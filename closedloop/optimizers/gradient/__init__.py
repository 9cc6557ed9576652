"""Optimizers that climb by gradients."""
