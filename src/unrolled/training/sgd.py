"""The state of minibatch SGD, for the ``SGD`` of each framework: its learning rate."""

from typing import Any

from unrolled.errors import SettingError
from unrolled.hyperparameters import HyperParameters

OURS = {"params", "lr", "hparams", "_ignored_hparams"}


class SGD(HyperParameters):
    """Minibatch SGD without its step: what a checkpoint keeps of it."""

    lr: float

    def state_dict(self) -> dict[str, Any]:
        """Return what the next steps depend on: the learning rate.

        Raises:
            SettingError: a subclass keeps more, and does not say how to restore it.
        """
        more = sorted(set(vars(self)) - OURS)
        if more:
            raise SettingError(
                f"the optimizer {type(self).__name__} keeps {', '.join(more)} beside SGD's own "
                "attributes: give it state_dict(), which returns what its next steps depend on, "
                "and load_state_dict(state), which takes that dict"
            )
        return {"lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.lr = state["lr"]
