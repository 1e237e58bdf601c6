"""One step of stochastic Frank-Wolfe over ResNet-18's parameters against torch's SGD with momentum.

11.7 million entries in 62 tensors on the CPU, gap sampling aside. SGD runs as torch chooses by default (a loop over the
tensors), and fused. For the K-sparse polytope the bar is one ``torch.topk`` over the same entries. Then what measuring
costs: epochs of the main job's network, 41 steps, as they are by default and without sampling.
"""

from __future__ import annotations

import torch
from torch import nn

from bench.harness import interleave, print_ratios
from models.resnet import make_resnet
from optim import CGD, L2, SFW, ConstraintSet, KSparse, LInf, Spectral

ROUNDS = 30


def run() -> None:
    """Prints the ratios."""
    torch.manual_seed(0)
    shapes = [
        p.shape
        for p in make_resnet(
            (3, 224, 224), 1000, depth=18, version=1.5, stem="auto", pretrained=False, freeze="none"
        ).parameters()
    ]
    steps = {
        "SGD": stepping(shapes, lambda xs: torch.optim.SGD(xs, lr=1e-3, momentum=0.9)),
        "SGD, fused": stepping(shapes, lambda xs: torch.optim.SGD(xs, lr=1e-3, momentum=0.9, fused=True)),
    }
    sets = {"linf": LInf(), "l2": L2(init_factor=30)}
    ours = {
        f"SFW {rescale}, {name}": stepping(
            shapes, lambda xs, C=C, r=rescale: SFW(xs, C, lr=1e-3, rescale=r, gap_every=0)
        )
        for name, C in sets.items()
        for rescale in ("none", "fast_gradient", "gradient")
    }
    for name, work in ours.items():
        print_ratios(interleave({name: work, **steps}, ROUNDS), name, "ms", 1e3)
    k_sparse = {
        "SFW none, k_sparse": stepping(shapes, lambda xs: SFW(xs, KSparse(), lr=1e-3, rescale="none", gap_every=0)),
        "torch.topk": topk(shapes),
    }
    print_ratios(interleave(k_sparse, 8), "SFW none, k_sparse", "ms", 1e3)
    for C in (LInf(), L2(), Spectral()):
        name = f"epoch over {type(C).__name__}"
        print_ratios(interleave({name: epoch(C), "without sampling": epoch(C, gap_every=0)}, 60), name, "ms", 1e3)


def stepping(shapes: list[torch.Size], make):
    """A function that takes a step of the optimizer over new parameters with gradients."""
    xs = [torch.nn.Parameter(torch.randn(shape) * 0.02) for shape in shapes]
    for x in xs:
        x.grad = torch.randn_like(x)
    optimizer = make(xs)
    return optimizer.step


def topk(shapes: list[torch.Size]):
    """The tenth of largest entries of each tensor."""
    gs = [torch.randn(shape).flatten().abs() for shape in shapes]
    return lambda: [g.topk(-(-len(g) // 10), sorted=False) for g in gs]


def epoch(C: ConstraintSet, **options: int):
    """41 steps on batches of 32 random digits, and the measurements at their end."""
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    network = nn.Sequential(*convolution, nn.Linear(160, 50), nn.ReLU(), nn.Linear(50, 10))
    x, y = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    optimizer = CGD(network.parameters(), C, lr=1e-3, momentum=0.9, **options)

    def steps() -> None:
        for _ in range(41):
            loss = nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        optimizer.pop_group_measurements()

    return steps
