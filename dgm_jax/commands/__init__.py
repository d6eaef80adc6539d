"""The programs: `python -m dgm_jax.<name>` and train.py."""
