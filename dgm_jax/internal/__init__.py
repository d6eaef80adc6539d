"""Helpers that the rest of the package is built on; they may change without notice."""
