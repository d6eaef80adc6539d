"""Objectives as pure functions of arrays: per example, in nats, float32; nothing here imports flax."""
