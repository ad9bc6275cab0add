"""What a Workspace's work asks of a machine, whatever the machine."""

from __future__ import annotations

from dataclasses import dataclass

from kairay.mig import Cutter
from kairay.plan_job import TrainingData
from kairay.plan_quota import Quota
from kairay.plan_serving import ReplicaBounds
from kairay.plan_tuning import TuningShape
from kairay.plan_wishes import NO_SERVING_WISHES, NO_TUNING_WISHES, ServingWishes, TuningWishes
from kairay.presets import Preset, TuningFacts, TuningMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the work asks of a machine, taken from a Workspace."""

    preset: Preset
    tuning: TuningFacts | None
    """None: nothing is tuned."""
    method: TuningMethod
    workers: int | None
    bounds: ReplicaBounds | None
    """None: nothing is served."""
    tuning_wishes: TuningWishes = NO_TUNING_WISHES
    """Those of them that `tuning` does not hold."""
    serving_wishes: ServingWishes = NO_SERVING_WISHES
    max_usd_per_hour: float | None
    mig: str | None = None
    """Profile of the slices that each GPU is cut into, such as 1g.10gb; None: whole GPUs."""
    cutter: Cutter = Cutter.ANYONE
    """Who cuts the GPUs of new nodes."""
    gpus_per_node: int | None = None
    """Of each node no more than these are used; None: all."""
    spot: bool = False
    data: TrainingData | None = None
    """None: how much there is to learn from is not known."""
    quota: Quota | None = None
    """None: nobody has asked Azure."""

    @property
    def because(self) -> str:
        """Which of the user's own settings make the work larger, as the end of a sentence."""
        return self.tuning_wishes.because or self.serving_wishes.because

    @property
    def source(self) -> str:
        """Where the user's own settings are written."""
        return self.tuning_wishes.source or self.serving_wishes.source

    def data_of(self, shape: TuningShape) -> TrainingData | None:
        """What a run of this shape learns from."""
        steps = self.tuning_wishes.max_steps
        return self.data if self.data is None or steps is None else self.data.over(steps, shape)
