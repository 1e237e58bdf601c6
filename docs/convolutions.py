"""The pictures and times of docs/convolutions.md: filters on a photograph that ships with scikit-learn.

    python docs/convolutions.py pictures
    python docs/convolutions.py times     # prints the table; each time is a median

Source: M. Hjorth-Jensen, Week 45, lectures on machine learning, University of Oslo, 2025; no listing is copied.

Shapes: image (H, W), kernel (h, w).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import ndimage, signal
from sklearn.datasets import load_sample_image

OUT = Path(__file__).parent / "convolutions"
SOBEL = np.array([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
EXAMPLE = np.array(
    [
        *([4, 1, 2, 9, 8, 6], [9, 5, 9, 5, 8, 5], [1, 5, 9, 7, 6, 4]),
        *([2, 9, 8, 3, 7, 1], [8, 1, 6, 4, 2, 2], [1, 0, 5, 7, 8, 2]),
    ]
)


def photograph() -> np.ndarray:
    """A temple in China, (427, 640, 3), 0 to 255."""
    return load_sample_image("china.jpg").astype(np.float64)


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W), by luminance (ITU-R BT.601)"""
    return image @ np.array([0.299, 0.587, 0.114])


def gauss(sigma: float) -> np.ndarray:
    """A normal density on a square of 1 + 8 sigma pixels, with sum 1 up to what lies outside."""
    side = int(np.ceil(1 + 8 * sigma)) // 2
    y, x = np.mgrid[-side : side + 1, -side : side + 1]
    return np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def padded(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Zeros around the image, half the kernel's size at each side."""
    h, w = (side // 2 for side in kernel.shape)
    return np.pad(image, ((h, h), (w, w)))


def convolved(image: np.ndarray, kernel: np.ndarray, stride: int = 1, pad: bool = True) -> np.ndarray:
    """The definition: the kernel, rotated by 180 degrees, slides over the image; products are summed."""
    windows = np.lib.stride_tricks.sliding_window_view(padded(image, kernel) if pad else image, kernel.shape)
    return np.einsum("ijkl,kl->ij", windows[::stride, ::stride], kernel[::-1, ::-1])


def direct(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """SciPy's sum over the kernel at each pixel: H W h w multiplications."""
    return signal.convolve2d(image, kernel, mode="same")


def factors(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column (h,) and row (w,) whose outer product is the kernel.

    Raises:
        ValueError: its rank is not 1, so it has none.
    """
    u, s, v = np.linalg.svd(kernel)
    if len(s) > 1 and s[1] > 1e-12 * s[0]:
        raise ValueError(f"kernel: its rank is {np.linalg.matrix_rank(kernel)}; only one of rank 1 is separable")
    return u[:, 0] * s[0], v[0]


def separable(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Columns, then rows: H W (h + w) multiplications, for a kernel of rank 1."""
    column, row = factors(kernel)
    return ndimage.convolve1d(ndimage.convolve1d(image, column, 0, mode="constant"), row, 1, mode="constant")


def by_fft(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A product of Fourier transforms, with zeros around both, without which the picture wraps around its edges."""
    return signal.fftconvolve(image, kernel, mode="same")


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "direct": direct,
    "two one-dimensional ones": separable,
    "Fourier": by_fft,
}
KERNELS = {"Sobel, 3 × 3": SOBEL, "Gauss, σ = 1, 9 × 9": gauss(1), "Gauss, σ = 6, 49 × 49": gauss(6)}


def strided(image: np.ndarray) -> np.ndarray:
    """One feature map (213, 320) of three channels: a kernel of 4 × 4 that moves by two pixels, drawn by a seed."""
    layer = torch.nn.Conv2d(3, 1, 4, 2, 1, dtype=torch.float64)
    torch.manual_seed(2023)
    torch.nn.init.normal_(layer.weight)
    with torch.no_grad():
        return layer(torch.from_numpy(image).permute(2, 0, 1)[None])[0, 0].numpy()


def draw(name: str, panels: dict[str, np.ndarray]) -> None:
    """Images beside each other."""
    figure = Figure(figsize=(3.6 * len(panels), 2.9), layout="constrained")
    for axis, (title, image) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axis.imshow(image / 255 if image.ndim == 3 else image, cmap="gray")
        axis.set_title(f"{title}, {image.shape[0]} × {image.shape[1]}", fontsize=9)
        axis.set(xticks=[], yticks=[])
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=110)


def pictures() -> None:
    """All pictures of the page."""
    image = photograph()
    flat = grey(image)
    draw("filters", {"photograph": flat, "Gauss, σ = 6": separable(flat, gauss(6)), "Sobel": direct(flat, SOBEL)})
    draw("stride", {"photograph": image, "one feature map, stride 2": strided(image)})


def times(repeat: int = 9) -> None:
    """Prints the table of milliseconds: methods interleaved, the median of each."""
    torch.set_num_threads(1)
    flat = grey(photograph())
    print(f"| kernel | {' | '.join(METHODS)} |\n| --- |{' --- |' * len(METHODS)}")
    for name, kernel in KERNELS.items():
        found: dict[str, list[float]] = {method: [] for method in METHODS}
        for _ in range(repeat):
            for method, f in METHODS.items():
                start = time.perf_counter()
                f(flat, kernel)
                found[method].append(1e3 * (time.perf_counter() - start))
        print(f"| {name} | " + " | ".join(f"{statistics.median(t):.3g} ms" for t in found.values()) + " |")


if __name__ == "__main__":
    chosen = {"pictures": pictures, "times": times}.get(" ".join(sys.argv[1:]))
    if chosen is None:
        sys.exit(__doc__)
    chosen()
