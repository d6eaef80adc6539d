"""Makes docs/strip.png, samples of ten systems for the README, from pictures of results/.

Usage: python docs/site/strip.py
"""

import io
import pathlib

from PIL import Image, ImageDraw, ImageFont

from dgm_jax.internal.files import write_atomic

ROOT = pathlib.Path(__file__).parents[2]
# Name on the strip, picture, and pixels from one image of its grid to the next.
SYSTEMS = (
  ('PixelCNN', 'pixelcnn_small_samples', 58), ('Gated PixelCNN', 'gated_pixelcnn_small_4000_samples', 58),
  ('PixelSNAIL', 'pixelsnail_small_samples', 58), ('PixelCNN++', 'pixelcnn_pp_small_samples', 66),
  ('ladder VAE', 'hvae_mnist_lvae_small_samples', 58), ('DRAW', 'draw_mnist_small_samples', 58),
  ('VQ-VAE-2', 'vqvae2_mnist_prior_classes', 58), ('DCGAN', 'dcgan_mnist_small_samples', 58),
  ('WGAN-GP', 'dcgan_mnist_wgan_gp_small_samples', 58), ('InfoGAN', 'infogan_mnist_small_class_sweeps', 58),
)  # fmt: skip
SIDE, IMAGES, COLUMNS, GAP, WORDS = 176, 3, 5, 12, 24  # pixels of a panel, images a side, panels a row, pixels between


def strip():
  """The strip: a panel of each system, its name below."""
  rows = -(-len(SYSTEMS) // COLUMNS)
  size = COLUMNS * (SIDE + GAP) - GAP, rows * (SIDE + WORDS + GAP) - GAP
  canvas, font = Image.new('RGB', size, '#808080'), ImageFont.load_default(15)
  pen = ImageDraw.Draw(canvas)
  pen.rectangle((0, 0, *size), fill='white')
  for number, (name, stem, pitch) in enumerate(SYSTEMS):
    left, top = number % COLUMNS * (SIDE + GAP), number // COLUMNS * (SIDE + WORDS + GAP)
    with Image.open(ROOT / 'results' / f'{stem}.png') as image:
      edge = IMAGES * pitch + 2
      panel = image.convert('RGB').crop((0, 0, edge, edge)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    canvas.paste(panel, (left, top))
    pen.text((left + SIDE / 2, top + SIDE + 4), name, fill='#444', font=font, anchor='ma')
  return canvas


def main():
  data = io.BytesIO()
  strip().quantize(128, dither=Image.Dither.NONE).save(data, 'png', optimize=True)
  write_atomic(ROOT / 'docs' / 'strip.png', data.getvalue())
  print(f'docs/strip.png: {len(data.getvalue()) / 1000:.0f} kB')


if __name__ == '__main__':
  main()
