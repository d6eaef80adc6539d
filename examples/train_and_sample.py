"""Trains a variational autoencoder on the built-in digits for three minutes at most, and draws from it.

Usage: python examples/train_and_sample.py [CONFIG] [STEPS] [FOLDER]
"""

import sys

import numpy as np

import dgm_jax
from dgm_jax.pictures import gallery


def main(config='vae_digits', steps=12_000, folder='runs/example'):
  model = dgm_jax.fit(config, steps=int(steps), workdir=folder)  # the same again goes on; dgm_jax.load(folder) opens it

  images = model.sample(64, seed=0)  # uint8 [64, 8, 8, 1]
  gallery.write_png(f'{folder}/examples.png', gallery.grid(images))

  codes = model.encode(images)  # [64, latents]
  print(f'codes {codes.shape}, mean bound of the samples {np.mean(model.log_prob(images)):.2f} nats')
  between = model.interpolate(images[0], images[1], n=8)
  gallery.write_png(f'{folder}/between.png', gallery.grid(np.asarray(between), columns=8))
  print(f'pictures: {folder}/examples.png, {folder}/between.png')


if __name__ == '__main__':
  main(*sys.argv[1:])
