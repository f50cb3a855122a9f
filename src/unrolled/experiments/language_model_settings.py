"""`Settings` of the language-model experiment, and `complete`, which fills in the open ones."""

from dataclasses import dataclass, replace
from typing import Any

from unrolled.experiments.settings import setting
from unrolled.functional.clipping import CLIP_METHODS
from unrolled.functional.recurrent import CELLS
from unrolled.kernels import ENGINES, PRECISIONS
from unrolled.training.not_finite import POLICIES
from unrolled.training.truncation import STATES


@dataclass(frozen=True)
class Settings:
    """Settings of ``language-model``; the defaults are the published run.

    None: the value depends on other settings, see `complete`.
    """

    model: str = setting("rnn", "recurrent cell: rnn, gru or lstm", choices=tuple(CELLS))
    scratch: bool = setting(True, "written out; false: the framework's own layer")
    num_hiddens: int | None = setting(
        None, "hidden units of a layer", least=1, shown="512; 256 with scratch=false"
    )
    num_layers: int = setting(1, "recurrent layers", least=1)
    batch_size: int = setting(32, "sequences of a minibatch", least=1)
    num_steps: int = setting(35, "characters of a sequence", least=1)
    max_epochs: int = setting(500, "passes over the text", least=1, may_change=True)
    lr: float = setting(1.0, "learning rate", above=0)
    gradient_clip_val: float = setting(
        1.0, "what gradients are clipped at; 0 does not clip", least=0
    )
    gradient_clip_method: str = setting(
        "global_norm",
        f"what is clipped: {', '.join(CLIP_METHODS)}",
        choices=CLIP_METHODS,
    )
    on_nonfinite: str = setting(
        "stop",
        "at a loss or gradient that is NaN or infinite: stop, skip the minibatch, or rollback to "
        "the last checkpoint",
        choices=POLICIES,
    )
    state: str = setting(
        "carried", "what a minibatch begins with: carried, zero or drawn", choices=STATES
    )
    state_sigma: float = setting(0.1, "standard deviation of drawn states", least=0)
    back_steps: int | None = setting(
        None, "characters that a gradient goes back at most", least=1, shown="num_steps"
    )
    telemetry_every: int | None = setting(
        None, "steps from one telemetry record to the next; 0: none", least=0, shown="200 records"
    )
    use_random_iter: bool = setting(False, "subsequences in random order, state reset")
    max_tokens: int | None = setting(
        None,
        "train on so many characters at most",
        least=1,
        shown="10000; all of a text of your own",
    )
    text: str | None = setting(
        None,
        "UTF-8 text of your own: a file, several with commas between, or a folder of them",
        shown="The Time Machine",
    )
    clean: bool | None = setting(
        None,
        "keep the letters a-z and blanks only",
        shown="true; false for a text of your own",
    )
    prefix: str | None = setting(
        None,
        "what to continue",
        shown="time traveller; the start of a text of your own",
        may_change=True,
    )
    engine: str = setting(
        "auto",
        "what carries a scratch=true model over time: auto, reference, fast or triton",
        choices=ENGINES,
    )
    precision: str = setting(
        "float32",
        "of the products over time of a scratch=true model: float32 or bfloat16 (torch)",
        choices=PRECISIONS,
    )
    num_gpus: int = setting(0, "GPUs to use, if there are any; 0: the CPU", least=0)


def complete(settings: Settings) -> Settings:
    """The settings with every default that depends on another filled in, but the prefix.

    Example:
        >>> complete(Settings(scratch=False)).num_hiddens
        256
    """
    own = settings.text is not None
    choose: dict[str, Any] = {
        "num_hiddens": 512 if settings.scratch else 256,
        "max_tokens": None if own else 10000,
        "clean": not own,
    }
    return replace(
        settings, **{name: v for name, v in choose.items() if getattr(settings, name) is None}
    )
