"""Wiring: one file a family, one function a system, each `config -> System`."""
