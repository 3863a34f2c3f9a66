"""How long a client's work in one round takes on its device, and what of it fits into the time.

| the trainer starts | measures the model | its loss | trains, step by step |
"""

from dataclasses import dataclass

from edge_client import time_budget
from fedmqtt.effects import Seconds
from fedmqtt.messages import Method, Purpose, Training
from fleet_sim.hardware import Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkTime:
    """Of one client that was asked to train or to evaluate, and perhaps to do both."""

    hardware: Hardware
    purpose: Purpose
    measures: bool
    """It evaluates the model before it trains."""
    train_samples: int
    evaluate_samples: int
    training: Training
    method: Method

    @property
    def total_s(self) -> Seconds:
        if self.purpose == "evaluate":
            return self._before_steps_s
        return self._before_steps_s + self._steps_s

    def within(self, has_s: Seconds) -> tuple[int, Seconds]:
        """How many steps are made by who has to be done in so long, 0 if all; and when it is."""
        count = self.training.steps(self.train_samples)
        made = time_budget.steps_within(count, self._steps_s, has_s - self._before_steps_s)
        return (0, self.total_s) if made == count else (made, self.of_steps_s(made))

    def of_steps_s(self, steps: int) -> Seconds:
        """When it is done that makes so many steps."""
        share = steps / self.training.steps(self.train_samples)
        return self._before_steps_s + self._steps_s * min(1.0, share)

    @property
    def _before_steps_s(self) -> Seconds:
        seconds = self.hardware.start_s
        if self.measures or self.purpose == "evaluate":
            seconds += self._forward_s(self.evaluate_samples)
            if epochs := self.method.fine_tune_epochs:
                # The model is measured before it and after it.
                seconds += self._passes_s(epochs) + self._forward_s(self.evaluate_samples)
        if self.purpose == "train" and self.method.tells_loss:
            seconds += self._forward_s(self.train_samples)
        return seconds

    @property
    def _steps_s(self) -> Seconds:
        return self._passes_s(1 if self.method.sends == "gradient" else self.training.epochs)

    def _passes_s(self, epochs: int) -> Seconds:
        return self.hardware.train_s(self.train_samples, epochs) - self.hardware.start_s

    def _forward_s(self, samples: int) -> Seconds:
        return self.hardware.evaluate_s(samples) - self.hardware.start_s
