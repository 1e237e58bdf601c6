"""Sweeps: many runs from one command, as good as their run directories.

    python -m trainer -m optim=sgd,cgd optim.lr=1e-3,1e-2 'seed=range(0,3)'
    python -m trainer resume outputs/2026-01-31/12-00-00_sweep

The jobs are planned before the first starts (``grid``, or ``search`` as it goes), checked (``check``), and frozen in
directories of their own (``folder``). From then on a job is nothing but a run to go on with, whoever does it: warm
processes of this machine (``pool``), or a launcher of Hydra's (``elsewhere``). What happened is read from the run
directories, never from return values; so a kill of anything, at any time, loses nothing that a run would not lose.
"""
