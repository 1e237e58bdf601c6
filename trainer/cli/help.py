"""The page of ``--help``."""

from __future__ import annotations

import textwrap

from trainer.cli.commands import COMMANDS
from trainer.rundir.trust import CONF

# An example for each group on the help page; the choices are read from conf/.
EXAMPLES = {
    "data": "data=wine data.batch_size=64",
    "model": "model=mlp model.widths=[100]",
    "constraint": "constraint=linf constraint.radius=0.5",
    "optim": "optim=cgd optim.lr=1e-3",
    "schedule": "schedule=cosine",
    "objective": "objective=cross_entropy objective.l2=1e-4",
    "train": "train.epochs=10 train.precision=bf16",
    "logger": "logger=[pictures,tensorboard]",
    "sweep": "sweep.workers=4",
    "experiment": "experiment=digits_cnn_cgd",
}

HELP = """\
conga trains neural networks with gradient descent and with conditional gradients (stochastic Frank-Wolfe).

Usage: python -m trainer [GROUP=CHOICE | KEY=VALUE] ...

Groups, their choices, and an example of each:
{groups}

More examples:
  python -m trainer model=cnn optim=cgd                        train; the run goes to outputs/
  python -m trainer -m optim=sgd,cgd 'seed=range(0,3)'         one run for each combination
  python -m trainer resume outputs/2026-01-31/12-00-00_cnn_digits_cgd    go on after a stop
  python -m trainer model=cnn --cfg job                        print the configuration, train nothing

Sweeps (-m): hydra/sweeper=grid or optuna; hydra/launcher=workers, submitit_slurm, submitit_local or ray.
Flags: --hydra-help lists Hydra's own; conga -sc install=bash installs shell completion.

Commands, python -m trainer COMMAND --help:
{commands}
"""


def help_page() -> str:
    """The text of ``--help``, its groups and choices read from conf/."""
    choices = {g.name: sorted(f.stem for f in g.glob("*.yaml")) for g in CONF.iterdir() if g.is_dir()}
    order = [*EXAMPLES, *sorted(choices.keys() - EXAMPLES.keys())]
    rows = [(g, ", ".join(choices[g]), EXAMPLES.get(g, f"{g}={choices[g][0]}")) for g in order if choices.get(g)]
    indent, lines = " " * 14, []
    for group, names, example in rows:
        wrapped = textwrap.fill(names, 100, initial_indent=f"  {group:<11} ", subsequent_indent=indent)
        lines += [wrapped, f"{indent}e.g. {example}"] if "\n" in wrapped else [f"{wrapped:<60} e.g. {example}"]
    commands = [f"  {name:<11} {command.line}" for name, command in COMMANDS.items()]
    return HELP.format(groups="\n".join(lines), commands="\n".join(commands)).replace(
        "$", "$$"
    )  # Hydra substitutes in it
