"""Imported once, by the process that all jobs are forked from: whatever a run would import, each anew."""

import trainer.loop
import trainer.objectives
import trainer.run
import trainer.sweep.check
import trainer.training  # noqa: F401
