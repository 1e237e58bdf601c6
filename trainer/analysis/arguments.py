"""The arguments of the commands of this room. Does not import torch: ``python -m trainer evaluate --help`` is quick."""

from __future__ import annotations

import argparse

from trainer.cli.command import add_config_dir, add_trust
from trainer.rundir.typed import typed_path

TESTS = ("prune", "filters", "low_rank", "noise", "fgsm", "pgd", "fw")  # of robustness
FORMATS = ("onnx", "torch_export", "safetensors")  # of export
UNITS = 12  # in a row of several runs' weights


def evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=typed_path, metavar="RUN_DIR", help="the directory of a run, which may still be training"
    )
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="data.KEY=…",
        help="where data moved: data.path=…, data.root=…",
    )
    parser.add_argument("--new-data", action="store_true", help="evaluate all samples of other data than the run's")
    parser.add_argument("--split", help="train, val or test; default: test, else val, else train")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N; default: best")
    parser.add_argument("--out", type=typed_path, metavar="DIR", help="where to write; default: RUN_DIR/evaluation")
    parser.add_argument("--format", choices=("parquet", "csv"), help="of predictions; default: parquet if possible")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: auto")
    add_trust(parser)


def predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=typed_path, metavar="RUN_DIR", help="the directory of a run, which may still be training"
    )
    parser.add_argument(
        "input",
        nargs="?",
        type=typed_path,
        metavar="INPUT",
        help="an image, a folder of images, .csv, .parquet, .npz, or a text file with an input in each line",
    )
    parser.add_argument("--text", metavar="TEXT", help="the text itself, of a run whose inputs are texts")
    parser.add_argument("--csv", action="store_true", help="print comma-separated values with all probabilities")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N; default: best")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: auto")
    add_trust(parser)


def sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=typed_path, metavar="RUN_DIR", help="the directory of a run, which may still be training"
    )
    parser.add_argument("--npz", type=typed_path, metavar="FILE", help="write images and codes as arrays, too")
    parser.add_argument("--n", type=int, default=1000, help="number of images in --npz (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the codes (0)")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N; default: best")
    parser.add_argument("--out", type=typed_path, metavar="DIR", help="where to write; default: RUN_DIR/samples")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: auto")
    add_trust(parser)


def export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=typed_path, metavar="RUN_DIR", help="the directory of a run, which may still be training"
    )
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="data.KEY=…", help="where data moved: data.path=…, data.root=…"
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the file")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N; default: best")
    parser.add_argument("--out", type=typed_path, metavar="FILE", help="default: RUN_DIR/export/model.ENDING")
    parser.add_argument("--random", action="store_true", help="check on random inputs, without reading the data")
    parser.add_argument(
        "--pruned",
        type=float,
        metavar="PERCENT",
        help="without so many of each hidden layer's filters: a smaller network",
    )
    parser.add_argument(
        "--finetune", type=int, metavar="EPOCHS", help="with --pruned: after so many epochs of training what is left"
    )
    add_trust(parser)


def robustness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=typed_path, metavar="RUN_DIR", help="a run's directory, or several")
    parser.add_argument("--split", default="test", help="the split of the samples (test)")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N (best)")
    parser.add_argument("--tests", default=",".join(TESTS), help=f"some of {','.join(TESTS)} (all)")
    parser.add_argument(
        "--finetune",
        type=int,
        metavar="EPOCHS",
        help="measures compressed networks also after so many epochs of training",
    )
    parser.add_argument("--limit", type=int, default=1000, help="number of samples, drawn by the seed (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples, noise, and random starts (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    parser.add_argument(
        "--out",
        type=typed_path,
        help="the picture's file, with the CSV beside it; default: RUN_DIR/robustness/robustness.png, of several runs "
        "outputs/robustness.png, beside a CSV in each",
    )
    add_trust(parser)


def weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=typed_path, metavar="RUN_DIR", help="a run's directory, or several")
    parser.add_argument("--units", type=int, default=UNITS, help=f"units of each run ({UNITS})")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N (best)")
    parser.add_argument(
        "--out",
        type=typed_path,
        metavar="FILE",
        help="the picture's file; default: RUN_DIR/weights.png, of several runs outputs/weights.png",
    )
    add_trust(parser)


def see(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=typed_path, metavar="RUN_DIR", help="the directory of a run on images")
    parser.add_argument("--layer", help="name of the layer, as model-card has it; default: the last convolution")
    parser.add_argument("--filters", metavar="0,1,…", help="numbers of the filters; default: the first 64")
    parser.add_argument("--steps", type=int, default=100, help="steps of the ascent (100)")
    parser.add_argument("--rate", type=float, default=0.05, help="length of a step, of the pixels' range (0.05)")
    parser.add_argument("--l2", type=float, default=0.0, help="factor of the pixels' squares, from grey (0)")
    parser.add_argument("--smooth", type=float, default=0.0, help="factor of the differences between neighbours (0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise to begin with (0)")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a kept epoch_N; default: best")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: auto")
    parser.add_argument(
        "--out", type=typed_path, metavar="FILE", help="the picture's file; default: RUN_DIR/see/LAYER.png"
    )
    add_trust(parser)


def data_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="data=… | data.KEY=…", help="as for a run")
    parser.add_argument("--out", type=typed_path, help="the picture's file; default: outputs/data_card_NAME.png")
    add_config_dir(parser, "your own YAML")


def model_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="model=… | data=… | KEY=VALUE", help="as for a run")
    parser.add_argument("--input", help="shape of one sample instead of a dataset, such as 3x32x32")
    parser.add_argument("--outputs", type=int, default=10, help="with --input: the number of outputs (10)")
    add_config_dir(parser, "your own YAML")


ARGUMENTS = {
    "evaluate": evaluate,
    "predict": predict,
    "sample": sample,
    "export": export,
    "robustness": robustness,
    "weights": weights,
    "see": see,
    "data-card": data_card,
    "model-card": model_card,
}
