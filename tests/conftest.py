"""Strict surroundings: warnings are errors, ranks are never promoted, eight CPU devices."""

import os
import pathlib

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
from jaxtyping import install_import_hook

CACHE = pathlib.Path(os.environ.get('DGM_JAX_CACHE', '~/.cache/dgm_jax')).expanduser() / 'tests'

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_compilation_cache_dir', str(CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)

# Shape annotations are checked here and nowhere else.
install_import_hook(['dgm_jax.losses', 'dgm_jax.distributions', 'dgm_jax.nn', 'dgm_jax.models'], 'beartype.beartype')
