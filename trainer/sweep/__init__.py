"""Sweeps: many runs from one command.

    python -m trainer -m optim=sgd,cgd optim.lr=1e-3,1e-2 'seed=range(0,3)'
    python -m trainer resume outputs/2026-01-31/12-00-00_sweep

Jobs are planned (``grid``, or one by one in ``search``), checked (``check``), and frozen in their directories
(``folder``). From then on a job is a run to resume, by warm processes of this machine (``pool``) or by a launcher of
Hydra's (``launchers``). Results are read from the run directories, never from return values, so a kill at any time
loses no more than in a single run.
"""
