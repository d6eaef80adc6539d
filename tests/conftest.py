"""Strict surroundings: warnings are errors, ranks are never promoted, eight CPU devices."""

import gc
import os
import pathlib
from importlib import metadata

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Programs of tests, and of the commands that they start, run a few times on a few numbers: quick to compile is all.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('JAX_TRACEBACK_IN_LOCATIONS_LIMIT', '0')  # no operation says which lines made it
if metadata.version('jaxlib') < '0.11':  # later ones know no such flags
  quick = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {quick}'.strip()

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

CACHE = pathlib.Path(os.environ.get('DGM_JAX_CACHE', '~/.cache/dgm_jax')).expanduser() / 'tests'

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_compilation_cache_dir', str(CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)

# Tracing makes many objects that live as long as the process does: looking for rubbish among them takes a tenth of all.
gc.set_threshold(100_000, 20, 50)

# Shape annotations are checked here and nowhere else.
install_import_hook(['dgm_jax.losses', 'dgm_jax.distributions', 'dgm_jax.nn', 'dgm_jax.models'], 'beartype.beartype')


@pytest.fixture
def unchecked():
  """Turns jaxtyping off: the library's own message is what a user sees."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)
