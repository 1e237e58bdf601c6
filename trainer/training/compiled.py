"""A step recorded once as torch operations, and repeated as one compiled graph or one CUDA graph.

This is the fast path of ``train.compile`` and ``train.cuda_graph``. It records ``step.move`` for batches of full size:
samples by index, forward, backward, update, sums of metrics. Python runs only during the recording, so its decisions
must not change from step to step. Everything that may change is a tensor: the samples, the learning rates, the sums.

Some steps stay plain, the same ones in a resumed run: the first step of a run, in which optimizers make their state;
smaller batches at the end of an epoch; steps in which an optimizer measures.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from data import Batch
from trainer.rundir.errors import Refused, one_line
from trainer.training.device import random_state, set_random_state
from trainer.training.evaluation import added
from trainer.training.objectives import Sums
from trainer.training.state import Training
from trainer.training.step import move, own_parameters, take_step

TRIAL = 1e-2  # the learning rate for comparing a recording with the plain step; a warm-up's would be too small
CLOSE, TINY = 1e-2, 1e-5  # rounding tolerance: share of a step's length and of the parameters' norm
WARM_UP = 3  # calls before a capture, in which libraries choose algorithms and workspaces (torch's advice)


class Recorded:
    """Takes a run's steps, from their recording if possible.

    Args:
        t: a run for which :func:`trainer.training.acceleration.why_not` knows no reason.
        compiled: the recording as one compiled graph (``torch.compile``).
        captured: the (compiled) recording as one CUDA graph.
    """

    def __init__(self, t: Training, *, compiled: bool, captured: bool):
        self.t, self.compiled, self.captured = t, compiled, captured
        self.indexed = t.dataset.takes_index  # then the recording takes the samples
        like = {"dtype": t.parameters[0].dtype, "device": t.device}
        self.rates = [torch.tensor(g["lr"], **like) for g in t.optimizer.param_groups]
        self.written: list[float | None] = [None] * len(self.rates)  # the numbers in `rates`
        self.options: list[dict[str, Any]] = []  # of the optimizer's groups, besides
        self.numbers: Sums = {}  # sums that are the same for every batch of full size
        self.totals: dict[str, Tensor] = {}  # of the epoch, added up within the recording
        self.replay: Callable[..., None] | None = None
        self.failed = False
        # The parameters that each optimizer step of one of these steps moves.
        self.moved = [t.parameters if turn is None else own_parameters(t, turn) for turn in t.objective.turns]

    def inputs(self, parts: list[Tensor], start: int) -> Iterator[Batch]:
        """The input of a step for each batch from number `start` on: sample indices, or the batch itself."""
        return ((part,) for part in parts[start:]) if self.indexed else self.t.batches(parts, start)

    def step(self, given: Sequence[Batch], sums: Sums) -> Sums:
        """Takes a step on inputs of :meth:`inputs`; returns the epoch's sums of metrics so far.

        The next step changes the returned tensors.
        """
        t = self.t
        if not self.fits(given):
            return added(sums, take_step(t, [self.batch(one) for one in given], None))
        tensors = list(itertools.chain(*given))
        try:
            if self.replay is None:
                self.replay = self.record(tensors, len(given))
            elif self.options != options(t.optimizer):
                raise RuntimeError("an option of the optimizer other than its learning rate changes")
        except RuntimeError as error:
            self.give_up(error)
            return self.step(given, sums)
        self.write(sums)
        self.replay(*tensors)
        if hasattr(t.optimizer, "replayed"):
            for xs in self.moved:
                t.optimizer.replayed(xs)
        if t.ema is not None:
            t.ema.update_parameters(t.model)
        return {k: sums.get(k, 0) + v for k, v in self.numbers.items()} | self.totals

    def fits(self, given: Sequence[Batch]) -> bool:
        """Whether a step is like the recorded one."""
        t, full = self.t, self.t.dataset.batch_size
        alike = len(given) == t.per_step and all(len(one[0]) == full for one in given)
        if not alike or t.progress.step == 0 or self.failed:
            return False
        turns = t.objective.turns  # a parameter moves as often as its turn comes
        measures = getattr(t.optimizer, "measures_within", None)
        return measures is None or not measures(max(map(turns.count, turns)))

    def batch(self, given: Batch) -> Batch:
        """A batch ready for the model."""
        return self.t.dataset.batch("train", given[0]) if self.indexed else given

    def write(self, sums: Sums) -> None:
        """Updates the tensors of the recording: learning rates, and sums of a plain step."""
        for i, group in enumerate(self.t.optimizer.param_groups):
            if group["lr"] != self.written[i]:
                self.rates[i].fill_(group["lr"])
                self.written[i] = group["lr"]
        for name, total in self.totals.items():
            before = sums.get(name, 0)
            if before is not total:
                total.copy_(before) if isinstance(before, Tensor) else total.fill_(before)

    def record(self, tensors: list[Tensor], batches: int) -> Callable[..., None]:
        """Records the step as a function of tensors like these.

        Raises:
            RuntimeError: the step reads numbers from the device, or cannot be compiled.
        """
        from torch.fx.experimental.proxy_tensor import make_fx  # the import takes half a second: only if needed

        t, each = self.t, len(tensors) // batches

        def moved(*tensors: Tensor) -> Sums:
            given = [tensors[i : i + each] for i in range(0, len(tensors), each)]
            return move(t, [self.batch(one) for one in given], None)

        others: Sums = {}  # the sums that are plain numbers

        def step(*tensors: Tensor) -> list[Tensor]:
            sums = moved(*tensors)
            others.update((k, v) for k, v in sums.items() if not isinstance(v, Tensor))
            return [sums[name] for name in self.totals]

        before = copies(t.parameters)
        with undone(t), at_rate(t.optimizer, TRIAL):
            kept = kept_by(t.optimizer)
            sums = moved(*tensors)
            after = copies(t.parameters)
            if not same_things(kept, kept_by(t.optimizer)):
                raise RuntimeError(f"{type(t.optimizer).__name__} keeps numbers in Python, or replaces its tensors")
        self.numbers = {k: v for k, v in sums.items() if not isinstance(v, Tensor)}
        self.totals = {k: torch.zeros_like(v) for k, v in sums.items() if isinstance(v, Tensor)}
        self.options = options(t.optimizer)
        with undone(t), as_tensors(t.optimizer, self.rates):
            graph = make_fx(step)(*(torch.empty_like(x).copy_(x[:1].expand_as(x)) for x in tensors))
        t.optimizer.zero_grad()
        forget_profiler(graph)
        with undone(t), torch.no_grad():  # recorded with some samples, is it right for others?
            for rate in self.rates:
                rate.fill_(TRIAL)
            rtol = 1e-4 if t.settings.precision in ("float32", "float64") else 1e-2
            pairs = zip(graph(*tensors), (sums[k] for k in self.totals), strict=True)
            same = [torch.allclose(x, y, rtol=rtol, equal_nan=True) for x, y in pairs]
            allowed = CLOSE * distance(before, after) + TINY * nn.utils.get_total_norm(after)
            if not all(same) or others != self.numbers or distance(t.parameters, after) > allowed:
                raise RuntimeError("a number on the host depends on the samples")
        self.written = [None] * len(self.rates)
        if self.captured and any(x.device != t.device for x in tensors_of(t.optimizer)):
            raise RuntimeError(f"{type(t.optimizer).__name__} counts its steps on the host")
        run = self.compile(graph, tensors) if self.compiled else graph

        @torch.no_grad()
        def counted(*tensors: Tensor) -> None:
            for total, value in zip(self.totals.values(), run(*tensors), strict=True):
                total.add_(value)  # outside the graph, since torch 2.11 compiles this wrongly

        if not self.captured:
            return counted
        with undone(t):
            return capture(counted, tensors)

    def compile(self, graph: fx.GraphModule, tensors: list[Tensor]) -> Callable[..., list[Tensor]]:
        """The compiled graph, for tensors like these.

        Raises:
            Refused: the compiler fails.
        """
        self.t.display.say("compile     the step, as one graph; this takes a while")
        run = torch.compile(graph, dynamic=False)
        try:
            with undone(self.t), torch.no_grad():
                run(*tensors)  # compiles here
        except RuntimeError as error:
            raise Refused(f"train.compile=true: the step cannot be compiled ({one_line(error)}); use false") from error
        return run

    def give_up(self, error: RuntimeError) -> None:
        """Continues with plain steps, with a compiled model if wanted, and prints why.

        Raises:
            Refused: `train.cuda_graph=true` does not allow plain steps.
        """
        t, why = self.t, one_line(error).partition(". ")[0]
        if t.settings.cuda_graph is True:
            raise Refused(f"train.cuda_graph=true: this step cannot be recorded ({why}); use false") from error
        self.failed = True
        if self.compiled:
            compile_alone(t, why)
        else:
            t.display.say(f"cuda_graph  not used: {why}")


def compile_alone(t: Training, why: str) -> None:
    """Compiles the model, a graph for each size of batch: the same numbers whichever comes first."""
    t.display.say(f"compile     the model alone: {why}")
    t.model.compile(dynamic=False)


def tensors_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors in the state of an optimizer."""
    return [value for value in kept_by(optimizer) if isinstance(value, Tensor)]


def kept_by(optimizer: torch.optim.Optimizer) -> list[Any]:
    """The state of an optimizer for each parameter: tensors and numbers."""
    return [value for of_x in optimizer.state.values() if isinstance(of_x, dict) for value in of_x.values()]


def same_things(some: list[Any], others: list[Any]) -> bool:
    """Whether tensors are identical objects, and numbers are equal."""
    plain = ([id(x) if isinstance(x, Tensor) else x for x in xs] for xs in (some, others))
    return next(plain) == next(plain)


def options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The options of each group, without parameters and learning rate."""
    return [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]


@contextlib.contextmanager
def at_rate(optimizer: torch.optim.Optimizer, rate: float) -> Iterator[None]:
    """Inside, all groups of an optimizer have one learning rate."""
    before = [group["lr"] for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["lr"] = rate
        yield
    finally:
        for group, lr in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = lr


def copies(xs: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the tensors."""
    return [x.detach().clone() for x in xs]


def distance(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """||x - y||_2 over all tensors."""
    return nn.utils.get_total_norm([(x - y).detach() for x, y in zip(xs, ys, strict=True)])


@contextlib.contextmanager
def undone(t: Training) -> Iterator[None]:
    """Restores parameters, buffers, the optimizer's state and random numbers afterwards."""
    state = {key: dict(of_x) if isinstance(of_x, dict) else of_x for key, of_x in t.optimizer.state.items()}
    kept = [*t.model.parameters(), *t.model.buffers(), *tensors_of(t.optimizer)]
    before, random = copies(kept), random_state(t.device)
    try:
        yield
    finally:
        with torch.no_grad():
            for x, value in zip(kept, before, strict=True):
                x.copy_(value)
        t.optimizer.state.update(state)
        set_random_state(random, t.device)


@contextlib.contextmanager
def as_tensors(optimizer: torch.optim.Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Inside, an optimizer steps with rates as tensors, and without fused kernels, which a compiler does not know."""
    groups, before = optimizer.param_groups, [dict(group) for group in optimizer.param_groups]
    compiling = torch.compiler.is_compiling()
    try:
        for group, rate in zip(groups, rates, strict=True):
            options = {"lr": rate, "fused": False, "foreach": True, "capturable": True}
            group.update({k: v for k, v in options.items() if k in group})
        # Makes torch's optimizers keep numbers on the device; torch.export sets the same flag while it traces.
        torch.compiler._is_compiling_flag = True
        yield
    finally:
        torch.compiler._is_compiling_flag = compiling
        for group, options in zip(groups, before, strict=True):
            group.update(options)


def forget_profiler(graph: fx.GraphModule) -> None:
    """Removes the optimizers' marks for the profiler, which compilers do not know."""
    for node in reversed(graph.graph.nodes):
        if "profiler::" in str(getattr(node.target, "name", lambda: "")()):
            graph.graph.erase_node(node)
    graph.recompile()


def capture(run: Callable[..., None], tensors: list[Tensor]) -> Callable[..., None]:
    """`run` as a CUDA graph, whose inputs are copied to fixed tensors."""
    static = [x.clone() for x in tensors]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(*static)

    def replay(*tensors: Tensor) -> None:
        for there, x in zip(static, tensors, strict=True):
            there.copy_(x)
        graph.replay()

    return replay
