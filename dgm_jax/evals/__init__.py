"""What is measured on a trained system: likelihoods, latents, pictures."""

__all__ = [
  'causality', 'classes', 'codebooks', 'codes', 'disentanglement', 'generated', 'labels', 'latent', 'likelihood',
  'mean', 'modes', 'parzen', 'style', 'surgery',
]  # fmt: skip
