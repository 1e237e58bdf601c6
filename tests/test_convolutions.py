"""docs/convolutions.py: the example to the digit, and three ways that agree."""

import re

import numpy as np
import pytest
import torch
from conftest import ROOT

from docs import convolutions as c


def test_the_example_of_the_page():
    found = c.convolved(c.EXAMPLE, np.ones((3, 3)) / 9, pad=False)
    page = (ROOT / "docs" / "convolutions.md").read_text()
    printed = re.search(r"```text\n(.*?)```", page, re.S)[1]
    assert printed.strip() == str(found.round(2))
    source = [[5, 5.78, 7, 6.44], [6.33, 6.67, 6.89, 5.11], [5.44, 5.78, 5.78, 4], [4.44, 4.78, 5.56, 4]]
    np.testing.assert_allclose(found, source, atol=0.005)
    assert c.convolved(c.EXAMPLE, np.ones((3, 3)) / 9).shape == (6, 6)


@pytest.mark.parametrize("name", c.KERNELS)
def test_the_ways_agree(name):
    """With each other, the definition, and torch, which does not rotate the kernel."""
    image, kernel = c.grey(c.photograph())[:90, :120], c.KERNELS[name]
    wanted = c.direct(image, kernel)
    scale = np.abs(wanted).max()
    turned = torch.from_numpy(kernel[::-1, ::-1].copy())[None, None]
    x = torch.from_numpy(image)[None, None]
    by_torch = torch.nn.functional.conv2d(x, turned, padding=tuple(side // 2 for side in kernel.shape))[0, 0]
    for found in (c.separable(image, kernel), c.by_fft(image, kernel), c.convolved(image, kernel), by_torch.numpy()):
        assert np.abs(found - wanted).max() <= 1e-10 * scale


def test_a_kernel_of_higher_rank_has_no_factors():
    with pytest.raises(ValueError, match="its rank is 3"):
        c.factors(np.eye(3))


def test_gauss_is_a_density():
    assert c.gauss(6).shape == (49, 49)
    assert c.gauss(6).sum() == pytest.approx(1, abs=1e-4)


def test_the_stride_halves_each_axis():
    assert c.strided(c.photograph()).shape == (213, 320)
