"""Restores what a run changes in a process: a script or a notebook continues as if nothing had been trained."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator

CUDNN = {"enabled": True, "benchmark": False, "deterministic": False, "allow_tf32": True}  # torch's defaults


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Inside, Hydra, Python and torch are as in a new process; afterwards their state is restored.

    So a run has the bits of the command's, with any former settings: a default dtype, ``torch.no_grad()``, a
    surrounding ``@hydra.main``. The number of threads is torch's own when it first trains.
    """
    with hydra_apart(), python_apart(), torch_apart():
        yield


@contextlib.contextmanager
def hydra_apart() -> Iterator[None]:
    """Hydra's globals: its configuration, its loader, its version, and the resolvers of OmegaConf."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    singletons, resolvers = dict(Singleton._instances), dict(BaseContainer._resolvers)
    try:
        for one in (GlobalHydra, HydraConfig, JobRuntime, VersionBase):
            Singleton._instances.pop(one, None)
        yield
    finally:
        Singleton._instances, BaseContainer._resolvers = singletons, resolvers


@contextlib.contextmanager
def python_apart() -> Iterator[None]:
    """Warnings, the level of logging, the environment, and the generators of Python and NumPy."""
    import numpy as np

    level, environment = logging.getLogger().level, dict(os.environ)
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(drawn)
            np.random.set_state(drawn_by_numpy)
            logging.getLogger().setLevel(level)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)


@contextlib.contextmanager
def torch_apart() -> Iterator[None]:
    """Torch's threads, default dtype and device, generators, and the switches of cuDNN and of matrix products."""
    import torch

    from trainer.training.device import set_deterministic

    threads, dtype, device = torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device()
    products, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = {name: getattr(torch.backends.cudnn, name) for name in CUDNN}
    began, seed = torch.cuda.is_initialized(), torch.initial_seed()
    gpus = range(torch.cuda.device_count()) if began else ()
    gpu = torch.cuda.current_device() if began else 0
    with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad():
        try:
            torch.set_default_dtype(torch.float32)
            if device.type != "cpu":
                torch.set_default_device(None)
            torch.set_float32_matmul_precision("highest")
            set_deterministic(False)
            for name, value in CUDNN.items():
                setattr(torch.backends.cudnn, name, value)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            if device.type != "cpu":
                torch.set_default_device(device)
            torch.set_float32_matmul_precision(products)
            if deterministic:
                torch.use_deterministic_algorithms(True, warn_only=only_warns)
            else:
                set_deterministic(False)
            for name, value in flags.items():
                setattr(torch.backends.cudnn, name, value)
            if torch.cuda.is_initialized():
                torch.cuda.set_device(gpu)
                if not began:  # as at the first use of a GPU
                    torch.cuda.manual_seed_all(seed)
