"""Costs a pod run without a pod: compiles the training step for a slice of TPUs that need not be there.

Usage: python -m dgm_jax.benchmark --config=configs/x.py --topology=v5e:8x8

Needs libtpu, which the extra `dgm_jax[tpu]` installs; no TPU and no metadata server. The batch of a device stays
`config.batch_size`. Several may run at once. A signal ends the compilation; what is compiled is written.
"""

import importlib.util
import os
import time
from typing import Any

from dgm_jax.errors import UserError
from dgm_jax.runtime import signals

__all__ = ['cost', 'devices', 'weak_scaling']

# Of one chip: bfloat16 FLOP/s; bytes/s that it sends to its neighbours, both ways of all links together.
CHIPS = {'v4': (275e12, 300e9), 'v5e': (197e12, 200e9), 'v5p': (459e12, 600e9), 'v6e': (918e12, 448e9)}
TYPES = {'v4': 'v4-8', 'v5e': 'v5litepod-8', 'v5p': 'v5p-8', 'v6e': 'v6e-8'}  # what libtpu calls a small slice of each
SOURCE = "Google Cloud's pages on TPU v4, v5e, v5p and v6e: peak compute and interchip bandwidth of a chip"


def devices(name: str) -> Any:
  """Returns the devices of a slice such as 'v5e:8x8'.

  Raises:
    UserError: libtpu is missing, or has no such slice.
  """
  chip, colon, shape = name.partition(':')
  if chip not in CHIPS or not colon or not all(n.isdigit() for n in shape.split('x')):
    raise UserError(f'--topology={name}: give a chip of {", ".join(CHIPS)} and a shape, such as v5e:8x8')
  if importlib.util.find_spec('libtpu') is None:
    raise UserError(f"--topology={name} compiles with libtpu, which is not installed: pip install 'dgm_jax[tpu]'")
  # libtpu otherwise locks the machine for one process, and waits for a metadata server that tells what TPU this is.
  alone = {'ALLOW_MULTIPLE_LIBTPU_LOAD': '1', 'TPU_SKIP_MDS_QUERY': '1', 'TPU_WORKER_HOSTNAMES': 'localhost'}
  for name_of, value in (alone | {'TPU_ACCELERATOR_TYPE': TYPES[chip]}).items():
    os.environ.setdefault(name_of, value)
  from jax.experimental import topologies

  try:
    return topologies.get_topology_desc(platform='tpu', topology_name=name).devices
  except Exception as error:  # libtpu's own errors have no common class
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    raise UserError(f'--topology={name}: libtpu does not give it ({reason})') from error


def cost(config: Any, name: str) -> dict:
  """Computes the cost of one step on a slice from its compiled program: FLOPs, memory, collectives and efficiency.

  XLA counts each loop's body once. The FLOPs are XLA's count, plus the products of all other turns. The
  efficiency is one on paper. It assumes the chip's peak for the arithmetic, and then a ring over its links for the
  all-reduce. With n devices each sends 2 (n - 1) / n of the bytes.
  """
  import numpy as np
  from jax.sharding import AxisType, Mesh

  from dgm_jax import training
  from dgm_jax.costs import hlo

  chips = np.asarray(devices(name))
  mesh = Mesh(chips, ('data',), axis_types=(AxisType.Auto,))
  config = config.copy_and_resolve_references()
  config.batch_size *= len(chips)
  run = training.describe(config, mesh)
  started = time.perf_counter()
  traced = training.compile_call(run).trace(run.like, np.uint32(0), *training.call_shapes(run, 1))
  program = signals.interruptible(lambda: traced.lower().compile())
  seconds = time.perf_counter() - started
  kinds = hlo.collectives(program.as_text())
  looped = hlo.product_flops(traced.jaxpr) - hlo.product_flops(traced.jaxpr, loops=False)
  flops = program.cost_analysis()['flops'] + looped / len(chips)
  sent = sum(kind['bytes'] for kind in kinds.values())
  return {
    'topology': name,
    'devices': len(chips),
    'batch_size': config.batch_size,
    'compile_seconds': round(seconds, 2),
    'flops_per_step_and_device': flops,
    'peak_bytes': hlo.peak_bytes(program),
    'collectives_per_step': kinds,
    'collective_bytes_per_step': sent,
    'on_paper': on_paper(name.partition(':')[0], len(chips), flops, sent),
  }


def on_paper(chip: str, count: int, flops: float, sent: float) -> dict:
  """Computes the seconds of a step's arithmetic and of its all-reduce at a chip's peak rates.

  The efficiency is the share of the arithmetic.
  """
  peak, link = CHIPS[chip]
  compute, transfer = flops / peak, 2 * (count - 1) / count * sent / link
  return {
    'compute_seconds': compute,
    'all_reduce_seconds': transfer,
    'weak_scaling_efficiency': compute / (compute + transfer),
    'rates': SOURCE,
  }


def weak_scaling(settings: list[dict], shared: bool) -> dict:
  """Computes how much of its speed a device keeps beside others, relative to the setting of fewest devices.

  Args:
    settings: the figures of each number of devices.
    shared: whether the devices are virtual and share the same cores. All together they are then at best as fast as one.
  """

  def rate(figures: dict) -> float:
    return figures['examples_per_second_per_device'] * (figures['devices'] if shared else 1)

  lines = []
  for figures in settings:
    alike = [other for other in settings if other['steps_per_call'] == figures['steps_per_call']]
    base = min(alike, key=lambda other: other['devices'])
    kept = {name: figures[name] for name in ('devices', 'steps_per_call')}
    lines.append(kept | {'efficiency': rate(figures) / rate(base)})
  what = 'all devices together, which share the same cores' if shared else 'a device'
  return {'of': f'the examples/s of {what}, relative to the fewest devices', 'efficiency': lines}
