"""Layers: pure linen modules that the models are built from."""
