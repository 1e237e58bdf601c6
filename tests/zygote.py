"""A process that has imported torch once and forks a real process for each run a test asks for.

A test that kills runs needs dozens of processes, and importing torch takes seconds. Requests and answers are lines
of JSON: {"argv", "cwd", "output", "env", "limit", "trip"} -> {"pid"}; {"wait": pid} -> {"status"}.
"""

import contextlib
import copy
import errno
import fcntl
import gc
import io
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"  # two threads a run crawl where two runs share two cores

# What single runs would import, each anew.
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import scipy.integrate  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401  (what train.compile and train.deterministic import)
import torchvision.models
import torchvision.transforms.v2  # noqa: F401
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource

import trainer.__main__ as program
import trainer.cli.display
import trainer.rundir.summary
import trainer.sweep.pool
import trainer.sweep.sweep
import trainer.training.device
import trainer.training.loop
import trainer.training.objectives.style
import trainer.training.run
from data import digits
from models import layer_list, mlp  # noqa: F401
from trainer.cli.begin import begin
from trainer.rundir.trust import CONF


def parse_once() -> None:
    """Of our own and of Hydra's YAML, what the warm process has parsed is kept; and so are the facts about the code."""
    parsed = {}
    for source in (FileConfigSource, ImportlibResourcesConfigSource):

        def load_config(self, config_path, real=source.load_config):
            if not self.path.startswith((str(CONF), "hydra.conf")):
                return real(self, config_path)
            key = (self.path, config_path)
            if key not in parsed:
                parsed[key] = real(self, config_path)
            return copy.deepcopy(parsed[key])

        source.load_config = load_config
    facts = trainer.training.run.git_facts()
    trainer.training.run.git_facts = lambda: facts


def warm_up() -> None:
    """Hydra reads its plugins, and fills the caches of its grammars, with the first configuration of a process."""
    sys.argv = ["conga", "--cfg", "job", "--resolve", "model=cnn", "optim=cgd", "hydra.run.dir=run", "train.epochs=1"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        program.main()
    gc.collect()
    gc.freeze()  # a fork's collections would copy the pages of everything imported


def keep_image(run: pathlib.Path, n: int) -> None:
    """Copies the run directory to where the n-th image of it is kept."""
    if run.exists():
        shutil.copytree(run, run.with_name("images") / f"{n:03}")


def lay_tripwire(where: str, n: int | None, what: int | str) -> None:
    """Sends this process a signal, or has it `hang`, `raise`, or `pause` for a signal, at the n-th place (from 1).

    With `keep`, copies what is in the directory `run` to `images/N`, which is what a SIGKILL would leave there, at
    each place where n is None; with `keep and kill`, there is one.

    ``file``: just before a file's content, or its new name, reaches the disk; ``batch``: while the objective works on
    a batch, of training, validation or test; ``build``: while the data are loaded.
    """
    count, run = 0, pathlib.Path("run").absolute()

    def trip(real):
        def wrapper(*args, **kwargs):
            nonlocal count
            count += 1
            if str(what).startswith("keep") and n in (None, count):
                keep_image(run, count)
                if what == "keep and kill":
                    os.kill(os.getpid(), signal.SIGKILL)
            elif count == n and what == "raise":
                raise RuntimeError("planted")
            elif count == n and what == "hang":
                print("hanging", flush=True)
                time.sleep(100)
            elif count == n and what == "pause":
                pathlib.Path("paused").touch()
                signal.alarm(60)
                signal.pause()
                signal.alarm(0)
            elif count == n:
                os.kill(os.getpid(), what)
            return real(*args, **kwargs)

        return wrapper

    if where == "file":
        os.fsync, os.replace = trip(os.fsync), trip(os.replace)
    elif where == "build":
        digits.Digits.load = trip(digits.Digits.load)
    else:
        objectives = trainer.training.objectives
        objectives.Supervised.loss_and_outputs = trip(objectives.Supervised.loss_and_outputs)
        objectives.Reconstruction.mean = trip(objectives.Reconstruction.mean)
        for kind in (objectives.NextToken, objectives.adversarial.Adversarial, objectives.style.Style):
            kind.__call__ = trip(kind.__call__)


def stub(path, asked: float) -> int:
    """A job that does nothing, and leaves word that it did."""
    with open(path / "started", "a") as file:
        file.write("once\n")
    trainer.rundir.summary.Summary.read(path).update(status="finished", epochs=30)
    return 0


def no_lock(handle: int, how: int) -> None:
    """What a file system over the network does."""
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def child(request: dict) -> None:
    """Becomes the run; never returns."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    begin()  # as `python -m trainer` does, which this is not
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    # Jobs of a sweep are forks, too, of a process that is warm already; the server of their own would start anew.
    trainer.sweep.pool.context = lambda: multiprocessing.get_context("fork")
    if "CONGA_TEST_FP16" in request["env"]:
        trainer.training.device.has_fp16 = lambda: True
    if "CONGA_TEST_STUB" in request["env"]:
        trainer.sweep.sweep.run_job = stub
    if "CONGA_TEST_NO_LOCKS" in request["env"]:
        fcntl.flock = no_lock
    if request["trip"]:
        lay_tripwire(*request["trip"])
    if request["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    sys.argv = ["conga", *request["argv"]]
    code = 1
    try:
        program.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answers requests until there are no more."""
    parse_once()
    warm_up()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                child(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
