"""What is measured on a trained system: likelihoods, latents, pictures."""
