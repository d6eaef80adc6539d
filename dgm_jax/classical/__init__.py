"""Inference in closed form, without networks: mean field, EM, and the models for which they are exact.

Functions of arrays keep the precision of their data: float32, or float64 if JAX has it enabled.
"""
