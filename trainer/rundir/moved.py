"""The present names of classes that runs of earlier versions name."""

from __future__ import annotations

from typing import Any

NAMES = {
    "trainer.training.Settings": "trainer.training.settings.TrainSettings",
    "trainer.loop.Settings": "trainer.training.settings.TrainSettings",
    "trainer.training.state.Settings": "trainer.training.settings.TrainSettings",
    "trainer.training.settings.Settings": "trainer.training.settings.TrainSettings",
    "trainer.sweep.settings.Settings": "trainer.sweep.settings.SweepSettings",
    "trainer.loggers.Csv": "trainer.training.loggers.Csv",
    "trainer.loggers.Pictures": "trainer.analysis.loggers.pictures.Pictures",
    "trainer.trackers.TensorBoard": "trainer.analysis.loggers.tensorboard.TensorBoard",
    "trainer.trackers.Wandb": "trainer.analysis.loggers.wandb.Wandb",
    "trainer.trackers.Mlflow": "trainer.analysis.loggers.mlflow.Mlflow",
    "trainer.analysis.loggers.tensor_board.TensorBoard": "trainer.analysis.loggers.tensorboard.TensorBoard",
    "trainer.analysis.loggers.weights_and_biases.Wandb": "trainer.analysis.loggers.wandb.Wandb",
    "trainer.analysis.loggers.ml_flow.Mlflow": "trainer.analysis.loggers.mlflow.Mlflow",
}
OBJECTIVES = "trainer.objectives."


def renamed(name: Any) -> Any:
    """The present name of a ``_target_``."""
    if isinstance(name, str) and name.startswith(OBJECTIVES):
        return f"trainer.training.objectives.{name.removeprefix(OBJECTIVES)}"
    return NAMES.get(name, name) if isinstance(name, str) else name


def up_to_date(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of any version with the present names of its ``_target_``s, as a new dict."""
    return {
        key: up_to_date(value) if isinstance(value, dict) else renamed(value) if key == "_target_" else value
        for key, value in config.items()
    }
