"""What each main configuration says of its paper, row by row."""

from papers import bits, classes, codes, densities, diffusions, games, ladders, painters, pixel_latents, posteriors

TABLE = games.TABLE | classes.TABLE | densities.TABLE | codes.TABLE | posteriors.TABLE | pixel_latents.TABLE
TABLE |= ladders.TABLE | painters.TABLE | bits.TABLE | diffusions.TABLE
