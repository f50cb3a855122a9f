"""``TextData``: a text as ids, minibatches to train on, and the last tenth held out."""

from unrolled.data.batching import SequenceLoader
from unrolled.data.data_module import DataModule
from unrolled.data.text import split_heldout
from unrolled.data.text_cache import vocabulary_and_ids
from unrolled.data.text_files import TextFiles
from unrolled.errors import SettingError, TextError


class TextData(DataModule):
    """A text, its vocabulary, and minibatches of ids to predict the next character from.

    The vocabulary is that of the whole text; the last tenth is held out.

    Args:
        text: the characters; or `unrolled.data.text_files.TextFiles`, which need not fit memory.
        batch_size: sequences of a minibatch.
        num_steps: characters of a sequence.
        use_random_iter: subsequences in random order instead of streams that continue.
        max_tokens: train on this many characters from the start at most.
        seed: of offsets and orders; None takes one from the framework's own generator.
        back_steps: characters that a gradient reaches back over; more than ``num_steps`` let
            minibatches overlap, see `unrolled.data.batching`. None: ``num_steps``.

    Attributes:
        vocab: the vocabulary.
        train_ids, heldout_ids: ids of the two parts, ``(N,)`` each, of the smallest type
            that the vocabulary fits in; those of a large text, or of several files, are
            `unrolled.data.shards.Shards`.

    Raises:
        TextError: the training part is too short for one minibatch.

    Example:
        >>> from unrolled import torch
        >>> data = torch.TextData("hello world " * 100, batch_size=4, num_steps=10, seed=0)
        >>> X, Y = next(iter(data.train_dataloader()))
        >>> tuple(X.shape), len(data.vocab), len(data.heldout_ids)
        ((4, 10), 9, 120)
    """

    num_steps: int
    use_random_iter: bool
    seed: int
    back_steps: int | None

    def __init__(
        self,
        text: str | TextFiles,
        batch_size: int,
        num_steps: int,
        use_random_iter: bool = False,
        max_tokens: int | None = None,
        seed: int | None = None,
        back_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["text"])
        if not isinstance(text, (str, TextFiles)):
            raise SettingError(
                f"TextData: text is a {type(text).__name__}; it must be a string, or "
                "TextFiles, which take the paths of files"
            )
        self.vocab, ids = vocabulary_and_ids(text)
        self.train_ids, self.heldout_ids = split_heldout(ids, max_tokens)
        self.seed = self.backend.fresh_seed() if seed is None else seed
        try:
            self.get_dataloader(train=True)  # a text that is too short is told of here
        except TextError as error:
            whole = len(split_heldout(ids)[0])
            if whole == len(self.train_ids):
                raise
            more = f", or a larger max_tokens: the text has {whole:,} to train on"
            raise TextError(f"{error}{more}") from None

    def get_dataloader(self, train: bool) -> SequenceLoader | None:
        if not train:
            return None
        return SequenceLoader(
            self.train_ids,
            self.batch_size,
            self.num_steps,
            self.use_random_iter,
            self.backend.asarray,
            seed=[self.seed, 1],
            back_steps=max(self.back_steps or 0, self.num_steps),
        )
