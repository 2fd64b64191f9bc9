"""Trained systems, and the folders that keep them."""
