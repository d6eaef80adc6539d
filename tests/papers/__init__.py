"""What each main configuration says of its paper, row by row."""

from papers import codes, densities, games, pixel_latents, posteriors

TABLE = games.TABLE | densities.TABLE | codes.TABLE | posteriors.TABLE | pixel_latents.TABLE
