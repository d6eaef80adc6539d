"""Layers: pure linen modules and functions that the models are composed of."""
