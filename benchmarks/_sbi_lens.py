"""Times sbi_lens's own simulator; run by throughput.py with the Python of an environment that has JAX.

    PYTHON benchmarks/_sbi_lens.py FOLDER SIZE BINS EXTENT BATCH REPEATS

FOLDER is a checkout of sbi_lens. Prints one JSON list, the CPU-seconds a map set of each repeat, compilation
apart. One call draws a cosmology, its spectra, the log-normal convergence and the noise on it.
"""

import json
import os
import sys
import time
import warnings
from functools import partial


def main() -> None:
    """Compile, then time batches."""
    folder, size, bins, extent, batch, repeats = sys.argv[1], *map(int, sys.argv[2:])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    warnings.simplefilter("ignore")
    sys.path.insert(0, folder)
    import jax
    from numpyro.handlers import seed, trace
    from sbi_lens.simulator.LogNormal_field import lensingLogNormal

    model = partial(lensingLogNormal, N=size, map_size=extent, nbins=bins)
    simulate = jax.jit(jax.vmap(lambda key: trace(seed(model, key)).get_trace()["y"]["value"]))
    simulate(jax.random.split(jax.random.PRNGKey(0), batch)).block_until_ready()
    seconds = []
    for repeat in range(repeats):
        keys = jax.random.split(jax.random.PRNGKey(repeat + 1), batch).block_until_ready()
        start = time.process_time()
        simulate(keys).block_until_ready()
        seconds.append((time.process_time() - start) / batch)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
