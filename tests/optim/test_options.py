"""How optimizers are written: options as lines in a class, the examples of the docs, a stack of models as one."""

import inspect
import math
from dataclasses import dataclass, field

import pytest
import torch
from conftest import ROOT, summary

import optim
from optim import L2, ConstraintSet, LInf, sgd


def parameter(values, grad):
    x = torch.nn.Parameter(torch.tensor(values))
    x.grad = torch.tensor(grad)
    return x


def blocks(language):
    """Those of docs/design.md in a language."""
    text = (ROOT / "docs/design.md").read_text()
    return [block.partition("```")[0] for block in text.split(f"```{language}\n")[1:]]


@pytest.fixture(scope="module")
def documented():
    """The classes of docs/design.md's examples."""
    scope = {"__name__": __name__}
    exec("\n".join(blocks("python")), scope)
    return scope


def test_the_documented_optimizer_steps_projects_and_checks(documented):
    x = parameter([1.0, -1.0, 0.0], [3.0, -2.0, 0.5])
    optimizer = documented["SignDescent"]([x], LInf(0.8), lr=0.5, momentum=0.5)
    assert x.tolist() == pytest.approx([0.8, -0.8, 0.0])
    optimizer.step()
    assert x.tolist() == pytest.approx([0.3, -0.3, -0.5])
    x.grad = -x.grad.clone()  # the momentum is g / 2, and -g / 4 now
    optimizer.step()
    assert x.tolist() == pytest.approx([0.8, -0.8, 0.0])
    with pytest.raises(ValueError, match=r"^momentum=1.5: must be in \[0, 1\)"):
        documented["SignDescent"]([x], lr=0.5, momentum=1.5)


def test_the_documented_method_steps_and_is_measured(documented):
    x = parameter([0.0, 0.0], [3.0, 4.0])
    optimizer = documented["Normalized"]([x], LInf(1.0), lr=0.6)
    optimizer.step()
    assert x.tolist() == pytest.approx([-0.1, -0.1])  # 0.6 / (1 + 5) of the way to (-1, -1)
    found = optimizer.pop_measurements()
    assert found["fw_gap"].item() == pytest.approx(7)
    assert found["step_norm"].item() == pytest.approx(0.1 * 2**0.5)


def test_the_documented_set_is_one(documented):
    C = documented["RowBalls"](2.0)
    g = torch.tensor([[3.0, 4.0], [0.0, -1.0], [0.0, 0.0]])
    v = torch.tensor([[-1.2, -1.6], [0.0, 2.0], [0.0, 0.0]])
    assert torch.allclose(C.lmo(g), v)
    assert C.gap(g, torch.zeros_like(g)).item() == pytest.approx(2 * (5 + 1))
    assert C.diameter(g.shape) == pytest.approx((2 * v.new_tensor([[2.0, 0.0]] * 3)).norm().item())
    assert not C.contains(g)
    assert C.contains(C.shift_inside(g))
    assert documented["RowBalls"](diameter=3.0).fitted(g).r == pytest.approx(3 / (2 * 3**0.5))
    with pytest.raises(ValueError, match=r"its radius depends on the parameter x; take fitted\(x\)"):
        documented["RowBalls"](diameter=3.0).lmo(g)


def test_the_documented_optimizer_trains_from_the_command_line(command, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("\n".join(blocks("python")))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own" / "optim").mkdir(parents=True)
    (yaml,) = blocks("yaml")
    (tmp_path / "own" / "optim" / "sign.yaml").write_text(yaml)
    options = ["--config-dir=own", "optim=sign", "constraint=linf", "data=iris", "train.epochs=1", "hydra.run.dir=run"]
    code, text = command(*options)
    assert code == 0, text
    assert summary(tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize(
    "name", ["CGD", "SFW", "SVRF", "ORGFW", "AdaGradSFW", "Scion", "sgd", "adamw", "muon", "cosine"]
)
def test_a_signature_has_common_and_own_options_and_no_others(name):
    make = getattr(optim, name)
    parameters = inspect.signature(make).parameters
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters.values())
    common = {"warmup_steps", "by", "floor"} if name == "cosine" else {"params", "constraint", "lr", "weight_decay"}
    assert common <= parameters.keys()
    with pytest.raises(TypeError, match="unexpected keyword argument 'lrr'"):
        make(lrr=0.1)
    assert not any(hasattr(make, key) for key in parameters)  # a default on the class is no value of an object


def test_the_value_of_an_option_stands_in_the_group_alone():
    optimizer = optim.SFW([parameter([0.1], [1.0])], LInf(1.0), lr=0.3, momentum=0.5)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.3, 0.5)
    assert not hasattr(optimizer, "lr")
    assert not hasattr(optimizer, "momentum")


def test_a_group_brings_its_set_to_an_optimizer_without_one():
    x, y = parameter([3.0, 4.0], [0.0, 0.0]), parameter([3.0, 4.0], [0.0, 0.0])
    optimizer = sgd([{"params": [x]}, {"params": [y], "constraint": L2(1.0)}], lr=0.1)
    optimizer.step()
    assert x.tolist() == [3.0, 4.0]
    assert y.tolist() == pytest.approx([0.6, 0.8])
    assert "constraint" not in optimizer.param_groups[0]  # as torch's own groups are
    with pytest.raises(ValueError, match=r"^momentum=-1: must be in \[0, 1\)"):
        optimizer.add_param_group({"params": [parameter([0.0], [0.0])], "momentum": -1})


@dataclass(frozen=True)
class Stack(ConstraintSet):
    """The product of a set over the first axis of a parameter: of a stack of models, one set each."""

    each: ConstraintSet = field(default_factory=LInf)

    def lmo(self, g):
        return torch.func.vmap(self.each.lmo)(g)

    def excess(self, x):
        return torch.func.vmap(self.each.excess)(x).amax()

    def boundary(self, x):
        return torch.func.vmap(self.each.boundary)(x).mean()

    def diameter(self, shape):
        return math.sqrt(shape[0]) * self.each.diameter(shape[1:])


@pytest.mark.parametrize(
    ("make", "C"),
    [
        (lambda x, C: optim.CGD(x, C, lr=0.1, momentum=0.5, weight_decay=0.1), optim.KSparse(0.5, k=2)),
        (lambda x, C: optim.SFW(x, C, lr=0.1), optim.Nuclear(1.0)),
        (lambda x, C: optim.Scion(x, C, lr=0.1), optim.Spectral(1.0)),
    ],
)
def test_a_stack_of_models_takes_the_steps_of_each(make, C):
    """One program for several models: the optimizer sees one tensor, the set a leading axis."""
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.zeros(3, 4, 5))
    alone = [torch.nn.Parameter(torch.zeros(4, 5)) for _ in stack]
    together, separate = make([stack], Stack(each=C)), [make([x], C) for x in alone]
    for _ in range(4):
        stack.grad = torch.randn_like(stack)
        together.step()
        for x, g, optimizer in zip(alone, stack.grad, separate, strict=True):
            x.grad = g.clone()
            optimizer.step()
    assert torch.allclose(stack, torch.stack(list(alone)), atol=1e-6)
    gaps = sum(optimizer.pop_measurements()["fw_gap"] for optimizer in separate)
    assert torch.allclose(together.pop_measurements()["fw_gap"], gaps)
