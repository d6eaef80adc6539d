"""Adversarial networks that know labels: SN-GAN and BigGAN with a projection, AC-GAN and TAC-GAN with classifiers.

Their networks are `biggan` or `dense_classes`. Features of any of their critics may be quantized
(`config.model.quantize`, `systems.parts.quantizers`). The average of the generator may start late
(`model.average_start`). Before figures and pictures, batch statistics may be taken anew (`model.standing` batches, view
`settle`).
"""

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System
from dgm_jax.systems.parts import class_views, games, turns
from dgm_jax.systems.parts.objectives import classification
from dgm_jax.systems.parts.turns import Variant

__all__ = ['acgan', 'biggan', 'sngan', 'tac_gan']
POINTS = CONDITIONAL = __all__


def sngan(config: ConfigDict) -> System:
  """Builds the system of a critic with spectral normalisation; with `config.conditional` it has a projection.

  Reference: Miyato et al. 2018, arXiv:1802.05957, algorithm 1; Miyato & Koyama 2018, arXiv:1802.05637, equation 3.
  """
  return _game(config, 'projection' if config.conditional else 'none', Variant())


def biggan(config: ConfigDict) -> System:
  """Builds the system of a conditional generator and a critic with a projection of its features on the label.

  Generated examples have labels by the shares of the training set.

  Reference: Brock et al. 2019, arXiv:1809.11096, section 3 and appendix B.
  """
  return _game(config, 'projection', Variant())


def acgan(config: ConfigDict) -> System:
  """Builds the system whose critic also classifies: it learns the labels of real examples, the generator obeys it.

  Generated examples have the labels of the batch, so that the shares of both kinds agree.

  Reference: Odena et al. 2017, arXiv:1610.09585, equations 2 and 3.
  """
  return _game(config, 'auxiliary', Variant(terms=classification(config.model, twin=False), labels_of_batch=True))


def tac_gan(config: ConfigDict) -> System:
  """Builds the system of two classifiers, of real and of generated examples, between which the generator stands.

  Reference: Gong et al. 2019, arXiv:1907.02690, equation 6.
  """
  return _game(config, 'twin', Variant(terms=classification(config.model, twin=True), labels_of_batch=True))


def _require_fit(config: ConfigDict) -> None:
  """Refuses images and latents that BigGAN's generator cannot divide, and attention where there is no map.

  Raises:
    UserError: there are such.
  """
  model, generator = config.model, config.model.generator
  if generator.network != 'biggan' or 'channels' not in generator:
    return
  times = 2 ** (len(generator.channels) - 1)
  experiment.require(
    len(config.data.shape) != 3 or not any(size % times for size in config.data.shape[:2]),
    f'{len(generator.channels)} config.model.generator.channels make a network that takes images whose height and width'
    f' {times} divides, not {tuple(config.data.shape)}: set config.data.size, or give fewer channels',
  )
  chunks = len(generator.channels) if generator.get('hierarchical', False) else 1
  experiment.require(
    model.latents % chunks == 0,
    f'config.model.latents={model.latents} must be a multiple of {chunks}, the number of generator.channels, each of'
    ' which has a chunk of them',
  )
  if len(config.data.shape) == 3:
    _check_attention(config, 'generator', [config.data.shape[0] >> i for i in range(len(generator.channels) - 1)])
  if len(config.data.shape) == 3 and model.critic.network == 'biggan':
    _check_attention(config, 'critic', [config.data.shape[0] >> i for i in range(1, model.critic.halvings + 1)])


def _check_attention(config: ConfigDict, role: str, heights: list[int]) -> None:
  """Refuses attention to maps of heights that no block of a network makes."""
  for height in getattr(config.model, role).get('attention', ()):
    experiment.one_of(f'an element of config.model.{role}.attention', height, heights)


def _game(config: ConfigDict, head: str, variant: Variant) -> System:
  """Returns the system of players in turn whose critic has this head."""
  model, settings = config.model, {}
  experiment.require(
    head == 'none' or config.conditional,
    f'{config.system} is told labels: set config.conditional=True, or take gan.sngan or gan.dcgan',
  )
  if head != 'none':
    classes = model.get('classes', 0)
    experiment.require(
      classes > 1, f'config.model.classes={classes} must be the number of classes of the data, at least 2'
    )
    settings = {'classes': classes, 'head': head}
  experiment.require(
    model.standing >= 0, f'config.model.standing must be a number of batches, 0 for none, got {model.standing}'
  )
  _require_fit(config)
  game = games.build(config, **settings)
  joint = not games.ties_examples(model)
  # Of a batch of training, over which batch statistics are taken.
  moves = turns.count(config, 'critic_steps') * turns.count(config, 'lazy') * config.accumulate
  examples = max(1, config.batch_size // moves)
  move = turns.in_turn(config, game, variant._replace(joint=joint))
  views = class_views.build(game, examples, model.prior == 'normal')
  return turns.close(config, game, move, views['draw'], **views)
