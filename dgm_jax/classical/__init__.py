"""Inference in closed form, without networks: mean field, EM, and the models they are exact in.

Functions of arrays that keep the precision of their data: float32, or float64 where JAX has it enabled.
"""
