"""``python -m trainer sample RUN_DIR``: what a GAN or a variational autoencoder makes of codes.

    RUN_DIR/samples/
        samples.png   from codes drawn by --seed, the same for every run with codes of this length
        walk.png      on arcs between pairs of codes
        plane.png     of codes with two numbers: the whole plane
        epochs.png    the first codes in each kept epoch (train.keep), and in the checkpoint

``--npz FILE`` writes --n images and their codes as arrays, with values as in the data's files.
"""

from __future__ import annotations

import argparse
import io

import numpy as np

from trainer.analysis import generated
from trainer.analysis.load import Run, load_run
from trainer.cli.display import tell
from trainer.plot.figures import rendered, write_out
from trainer.rundir.errors import Refused
from trainer.rundir.records import natural
from trainer.rundir.run_dir import inside, shown


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    path, out = arguments.run, arguments.out or arguments.run / "samples"
    if arguments.n < 1:
        raise Refused(f"--n={arguments.n}: must be at least 1")
    if not 0 <= arguments.seed < 2**63:
        raise Refused(f"--seed={arguments.seed}: must be at least 0 and less than 2**63")
    run = load_run(path, arguments.checkpoint, arguments.device, trusted=arguments.trusted)
    check(run)
    if arguments.out is None and not inside(path, out):
        raise Refused(f"{out}: is a link out of the run directory; --out=DIR writes elsewhere")
    codes = generated.drawn(generated.length(run), arguments.n, arguments.seed)
    if arguments.npz is not None:
        file = io.BytesIO()
        np.savez(file, x=generated.decoded(run, codes), codes=codes.numpy())
        write_out(arguments.npz, file.getvalue())
        tell(f"arrays   {shown(arguments.npz)}: x, {arguments.n:,} images; codes")
    title = f"{run.facts.name}; {arguments.checkpoint} checkpoint, {run.moment}; seed {arguments.seed}"
    files = dict(generated.pictures(run, arguments.seed, title))
    epochs = of_epochs(run, arguments.seed, arguments.device, arguments.trusted)
    if epochs is not None:
        files["epochs.png"] = epochs
    for name, content in files.items():
        write_out(out / name, content)
    tell(f"pictures {shown(out)}: {', '.join(files)}")


def check(run: Run) -> None:
    """Raises Refused if the model makes no images of drawn codes."""
    if not generated.has_codes(run):
        kinds = f"{type(run.model).__name__} with {type(run.objective).__name__}"
        raise Refused(f"{run.path}: {kinds} makes nothing of drawn codes; a GAN or a variational autoencoder does")
    if len(run.facts.input_shape) != 3 or run.facts.input_shape[0] not in (1, 3):
        raise Refused(f"{run.path}: its inputs are {run.facts.input_shape}, no images with 1 or 3 channels")


def of_epochs(run: Run, seed: int, device: str, trusted: bool) -> bytes | None:
    """A row of images for each kept epoch, from the same codes, as a PNG; None if none is kept."""
    kept = sorted((file.stem for file in (run.path / "checkpoints").glob("epoch_*.pt")), key=natural)
    if not kept:
        return None
    codes = generated.drawn(generated.length(run), generated.ACROSS, seed)
    rows = [generated.decoded(load_run(run.path, kind, device, trusted=trusted), codes) for kind in kept]
    title = f"the same codes in each kept epoch\n{run.facts.name}; seed {seed}"
    names = [kind.replace("_", " ") for kind in kept]
    return rendered(generated.mosaic, title, np.concatenate(rows), generated.limits(run), generated.ACROSS, names)
