"""The parts of a run, built from its configuration and put together."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from data import Dataset, Facts, Source
from data.storage import Missing
from models.size import layer_sizes, trains_on_one, work_at_once
from models.weights import learns, training_mode
from optim import note_initial_norms
from trainer.cli.display import Display, Silent, loading_progress, make_display
from trainer.cli.signatures import apart
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.summary import Summary
from trainer.training import by_part
from trainer.training.acceleration import accelerate
from trainer.training.adversary import Adversary
from trainer.training.device import pick_device, pick_threads
from trainer.training.distributed import World
from trainer.training.initial import Taken, freeze, norms_taken, take_weights
from trainer.training.loggers import guarded
from trainer.training.objectives import Objective
from trainer.training.parts import build, chosen, refusing, shapes
from trainer.training.settings import TrainSettings
from trainer.training.shared_norm import with_shared_statistics
from trainer.training.state import Training, steps_per_epoch
from trainer.training.stop import StopRequest


def assemble(
    *,
    seed: int,
    data: dict,
    model: dict,
    constraint: dict,
    optim: dict,
    schedule: dict,
    objective: dict,
    train: dict,
    logger: dict,
    frozen: dict,
    path: Path,
    summary: Summary,
    stop: StopRequest,
    world: World,
    show: type[Display] | None = None,
    kept: dict[str, Any] | None = None,
) -> Training:
    """Builds all parts of a run. The arguments are the configuration's root keys, and other facts of the run.

    Args:
        show: the display; None chooses one for the screen.
        kept: a cache for the dataset: that of the last call.

    Raises:
        Refused: a constructor does not take a value, or two parts do not fit.
    """
    settings = settings_of(train, seed, world)
    loggers = {name: build(f"logger.{name}", node) for name, node in logger.items()}  # one may lack its package
    place = place_of(settings, summary, world)
    torch.set_num_threads(1)  # for data and initial weights, whose bits should be those of any machine
    constraint_set = build("constraint", constraint)
    source = build("data", data)
    dataset = dataset_of(source, data, place, {} if kept is None else kept, stop)
    dataset.share = world.rank, world.size
    the_objective = objective_of(objective, dataset.facts)
    network = network_of(model, dataset, settings, place, seed)
    check_model(network, the_objective)
    taken = begin_from(network, settings, the_objective, path, summary)
    check_fit(dataset, the_objective, network, settings, world)
    layers = layer_sizes(network, dataset.facts.input_shape, tokens=dataset.facts.vocabulary is not None)
    work = work_at_once(layers) * -(-dataset.batch_size // world.size)
    threads = pick_threads(settings.threads, summary.data.get("threads"), work, place.device)
    torch.set_num_threads(threads)
    norms: dict[str, float] = {}
    if constraint.get("init_factor") is not None:
        norms = note_norms(network, model, dataset, norms_taken(network, taken, path) if settings.init_from else {})
    if world.size > 1:
        network = with_shared_statistics(network, world)
        torch.manual_seed(seed + world.rank)  # dropout: each process draws for its own samples
    trainable = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    optimizer = optimizer_of(optim, constraint_set, trainable, the_objective, settings)
    steps = steps_per_epoch(dataset, settings, the_objective)
    the_schedule = schedule_of(schedule, optimizer, settings, steps)
    parameters = sum(p.numel() for _, p in trainable)
    summary.data |= {"parameters": parameters, "device": str(place.device), "threads": threads, "seed": seed}
    display = display_of(show, world, path, settings, steps)
    with refusing("train"):
        training = Training(
            *(path, frozen, seed, settings, place.device, dataset, network, optimizer, the_schedule, the_objective),
            *(guarded(loggers, display.say) if world.main else [], summary, display, stop, world),
            **{"layers": layers, "taken": taken, "norms": norms, "source": source},
        )
        accelerate(training)
    return training


def settings_of(train: dict, seed: int, world: World) -> TrainSettings:
    """The settings of training.

    Raises:
        Refused: one is out of range, or the seed is.
    """
    if not 0 <= seed < 2**63:
        raise Refused(f"seed={seed}: must be at least 0 and less than 2**63")
    settings = build("train", train)
    if settings.anomaly and world.size > 1:
        raise Refused("train.anomaly=true: looks at one process; leave out torchrun")
    return settings


def display_of(show: type[Display] | None, world: World, path: Path, settings: TrainSettings, steps: int) -> Display:
    """The display of a run with so many steps an epoch; only the first process shows something."""
    total = min(settings.epochs * steps, settings.max_steps or settings.epochs * steps)
    return ((show or make_display) if world.main else Silent)(path / "train.log", settings.epochs, total, steps)


@contextlib.contextmanager
def saying_where_to_look() -> Iterator[None]:
    """Adds what to type to a refusal of the data of an existing run: they may have moved."""
    try:
        yield
    except Refused as error:
        if not isinstance(error.__cause__, Missing):
            raise
        key = str(error).partition("=")[0]
        raise Refused(f"{error}; if the data moved, add {key}=NEW_PLACE") from error


class Place(NamedTuple):
    """Device and format of a run's tensors; `dtype` None is float32."""

    device: torch.device
    dtype: torch.dtype | None
    channels_last: bool


def place_of(settings: TrainSettings, summary: Summary, world: World) -> Place:
    """The device and format of a run's tensors; a resumed run stays on its device if possible.

    Raises:
        Refused: the device does not exist.
    """
    device = pick_device(settings.device, summary.data.get("device"), several=world.size > 1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    channels_last = device.type == "cuda" if settings.channels_last == "auto" else settings.channels_last
    return Place(device, torch.float64 if settings.precision == "float64" else None, channels_last)


def dataset_of(source: Source, data: dict, place: Place, kept: dict[str, Any], stop: StopRequest) -> Dataset:
    """The dataset of `source`.

    Args:
        kept: a cache for the dataset: that of the last call.

    Raises:
        Refused: it cannot be read.
    """
    key = json.dumps([data, *map(str, place)])
    if key not in kept:
        with refusing("data"), loading_progress(stop.check) as progress:
            dataset = source.load(progress).to(place.device, place.dtype, channels_last=place.channels_last)
        kept.clear()  # only the last one: each takes memory
        kept[key] = dataset
    return kept[key]


def network_of(model: dict, dataset: Dataset, settings: TrainSettings, place: Place, seed: int) -> nn.Module:
    """The model with weights drawn by the seed, on the run's device."""
    if settings.init_from is not None and model.get("pretrained", False) is not False:  # a key of few models
        raise Refused(f"train.init_from={settings.init_from}: model.pretrained gives weights, too; choose one")
    facts = dataset.facts
    torch.manual_seed(seed)
    network = build("model", model, **shapes(facts))
    network.to(place.device, place.dtype, memory_format=torch.channels_last if place.channels_last else None)
    return network


def objective_of(node: dict, facts: Facts) -> Objective:
    """The objective of a configuration, with its adversary if it has one.

    Raises:
        Refused: a value is out of its range, or the objective or its adversary cannot use the data.
    """
    own, beside = apart("objective", node)
    objective = build("objective", own, facts=facts)
    with refusing("objective"):
        adversary = Adversary(facts, **beside)
        if adversary.kind != "none":
            objective.against(adversary)
    return objective


def check_model(network: nn.Module, objective: Objective) -> None:
    """Raises Refused if the objective cannot use the model."""
    try:
        objective.check(network)
    except ValueError as error:
        raise Refused(f"{chosen('model', 'objective')}: {one_line(error)}") from error


def begin_from(
    network: nn.Module, settings: TrainSettings, objective: Objective, path: Path, summary: Summary
) -> Taken | None:
    """Lets the objective begin, loads the weights of `train.init_from`, if any, and freezes those of `train.freeze`.

    A run that has a checkpoint of its own reads no other.

    Raises:
        Refused: as of :mod:`trainer.training.initial`, or nothing is left to train.
    """
    taken, is_new = None, not (path / "checkpoints" / "last.pt").exists()
    if is_new:
        with refusing("objective"):
            objective.begin()
    if is_new and settings.init_from is not None:
        taken = take_weights(network, settings.init_from, summary.data.get("init_from"))
        summary.data["init_from"] = taken.plain()
    with refusing("train"):
        freeze(network, settings.freeze)
    for turn in objective.turns:
        if turn is not None and not learns(network.get_submodule(turn)):
            raise Refused(f"train.freeze: leaves nothing to train in {turn}, whose loss {type(objective).__name__} has")
    return taken


def note_norms(network: nn.Module, model: dict, dataset: Dataset, loaded: dict[str, float]) -> dict[str, float]:
    """Records the norms of initial weights, of which `constraint.init_factor` is a multiple: the expected ones.

    Args:
        loaded: the norms of those that were not drawn, by name; it is returned.
    """
    make = functools.partial(build, "model", model, **shapes(dataset.facts))
    note_initial_norms(network, make, loaded=loaded)
    return loaded


def optimizer_of(
    optim: dict,
    constraint: Any,
    trainable: list[tuple[str, nn.Parameter]],
    objective: Objective,
    settings: TrainSettings,
) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters, over the constraint if any.

    Raises:
        Refused: a value is out of its range, or the optimizer and a setting do not fit.
    """
    if constraint is not None:
        with refusing("constraint"):  # first, so that an error about a parameter names the right group
            constraint.assign(*zip(*trainable, strict=True))
    of = optim.get("of") or {}
    node = {key: value for key, value in optim.items() if key != "of"}
    params = by_part.groups_of(of, trainable, constraint) if of else trainable
    with by_part.naming_part(of):
        optimizer = build("optim", node, params=params, constraint=constraint)
    by_part.check_taken(optimizer, of)
    if hasattr(optimizer, "second_point"):
        refuse_second_point(optimizer, objective, settings)
    return optimizer


def schedule_of(
    schedule: dict, optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int
) -> torch.optim.lr_scheduler.LambdaLR | None:
    """The schedule of a run with so many steps an epoch, if any."""
    times = {"epochs": settings.epochs, "steps_per_epoch": steps, "max_steps": settings.max_steps}
    return build("schedule", schedule, optimizer=optimizer, **times)


def check_fit(dataset: Dataset, objective: Objective, model: nn.Module, settings: TrainSettings, world: World) -> None:
    """Raises Refused if batches are too small for model or processes, or the objective cannot use mixed labels."""
    size, n = dataset.batch_size, dataset.facts.sizes["train"]
    few = settings.overfit_batches
    last = size if few and few * size <= n else (n - 1) % size + 1
    if last < world.size:
        raise Refused(
            f"data.batch_size={size}: leaves {last} of {n:,} training samples for the last batch, fewer than there are "
            f"processes ({world.size}); choose another"
        )
    facts = dataset.facts
    tokens = facts.vocabulary is not None
    if last == 1 and not trains_on_one(training_mode(model), facts.input_shape, tokens=tokens):
        raise Refused(
            f"data.batch_size={size}: leaves one of {n:,} training samples for the last batch, and this model's batch "
            "normalization needs more; choose another"
        )
    augment = dataset.augment
    if augment.mixes and not objective.takes_mixed_labels:
        name = "mixup" if augment.mixup else "cutmix"
        taker = type(objective).__name__
        raise Refused(f"data.augment.{name}={getattr(augment, name)}: mixes labels, which {taker} does not take")


def refuse_second_point(optimizer: Any, objective: Objective, settings: TrainSettings) -> None:
    """Raises Refused for settings that a method with two gradients cannot use."""
    name = type(optimizer).__name__
    if settings.clip_norm is not None:
        raise Refused(
            f"train.clip_norm={settings.clip_norm}: {name} compares gradients, which clipping changes; use null"
        )
    if settings.precision == "fp16":
        raise Refused(f"train.precision=fp16: {name} compares gradients, which fp16 scales; use bf16")
    if len(objective.turns) > 1:
        raise Refused(f"objective: {type(objective).__name__} has losses in turn, which {name} cannot compare")
