"""Networks that judge generated images."""
