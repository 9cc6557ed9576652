"""A sweep on a cluster with SLURM: jobs of Dask workers, reached by TLS, that come and go with the work.

    pip install -e '.[networks,slurm]'
    python examples/slurm.py plan.yaml --partition cpu --jobs 125

It is started where it can submit jobs and stay for as long as the sweep takes (a login node in tmux, or a small job of
its own). When it is gone, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dask_jobqueue import SLURMCluster
from distributed import Security

from closedloop.protocols import sweep

#: One compute thread for each worker: eight workers on eight cores, and none waits for another.
ONE_THREAD = "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1"


def slurm(partition: str, shared: Path, **options: Any) -> SLURMCluster:
    """Returns a cluster whose jobs have eight workers of one core each; no job is submitted yet.

    Args:
        partition: Of the cluster.
        shared: A folder that all nodes see, for the keys of TLS.
        **options: Further ones of `dask_jobqueue.SLURMCluster`, such as `account` or `interface`.
    """
    return SLURMCluster(
        queue=partition,
        cores=8,
        processes=8,
        memory="16GB",
        walltime="04:00:00",
        protocol="tls://",
        security=Security.temporary(),
        shared_temp_directory=str(shared),
        job_script_prologue=[ONE_THREAD],
        worker_extra_args=["--lifetime", "3h", "--lifetime-stagger", "20m"],  # a run goes on where its worker left it
        n_workers=0,
        **options,
    )


def main() -> None:
    """Submits the jobs and does the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--partition", required=True)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--shared", type=Path, default=Path.home(), help="a folder that all nodes see")
    arguments = parser.parse_args()
    with slurm(arguments.partition, arguments.shared) as cluster:
        cluster.adapt(maximum_jobs=arguments.jobs)
        result = sweep(arguments.plan, scheduler=cluster)
    print(f"{result.done} of {result.total} runs done, {len(result.failed)} failed; closedloop report {result.out}")


if __name__ == "__main__":
    main()
