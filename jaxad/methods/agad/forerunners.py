"""What GANomaly and Skip-GANomaly share as detectors of their own: they are AGAD with settings of `LINEAGE`."""

import dataclasses
from typing import ClassVar, Literal

from jaxad.methods.agad.config import LINEAGE, AGADConfig
from jaxad.methods.agad.detector import agad
from jaxad.types import Batch, Detector, Key, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForerunnerConfig:
    """Settings of both; constants are those of the authors' code, which is one for the two."""

    lineage: ClassVar[str]  # which entry of `LINEAGE` it is, but for its fields

    contextual_weight: float = 50.0
    """Weight w_con of the reconstruction."""
    steps: int = 1000
    """Training steps (authors' code: 15 epochs)."""
    learning_rate: float = 2e-4
    """Learning rate of Adam (the paper on GANomaly prints 2e-3); the authors' code lowers it from its 16th epoch on,
    where its training has ended."""
    b1: float = 0.5
    """First decay rate of Adam; the second is 0.999."""
    reset_below: float = 1e-5
    """Re-initialise the discriminator when its loss is less."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number type of convolutions; weights and everything else stay float32."""

    def check(self) -> None:
        """Raise ValueError for values out of range; the constructors do so, too."""
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; the least is 1")
        self.as_agad().check()

    def as_agad(self) -> AGADConfig:
        """The same as settings of AGAD, whose parts train and score it."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "steps"}
        return dataclasses.replace(LINEAGE[self.lineage], **shared)

    def detector(self) -> Detector:
        """AGAD's with these settings, which sees images alone: forerunners know no labels."""
        made = agad(self.as_agad())

        def step(key: Key, state: State, batch: Batch) -> tuple[State, object]:
            return made.step(key, state, Batch(batch.images))

        return made._replace(step=step)
