"""A text as a data set for language models."""

from unrolled.data.batching import SequenceLoader
from unrolled.data.text import split_heldout
from unrolled.data.vocabulary import Vocab
from unrolled.training.data import DataModule


class TextData(DataModule):
    """A text, its vocabulary, and minibatches of ids to predict the next character from.

    The vocabulary is that of the whole text; the last tenth is held out.

    Args:
        text: the characters.
        batch_size: sequences of a minibatch.
        num_steps: characters of a sequence.
        use_random_iter: subsequences in random order instead of streams that continue.
        max_tokens: train on this many characters from the start at most.
        seed: of offsets and orders; None takes one from the framework's own generator.

    Attributes:
        vocab: the vocabulary.
        train_ids, heldout_ids: ids of the two parts, ``(N,)`` each.

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

    def __init__(
        self,
        text: str,
        batch_size: int,
        num_steps: int,
        use_random_iter: bool = False,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["text"])
        self.vocab = Vocab(text)
        self.train_ids, self.heldout_ids = split_heldout(self.vocab.encode(text), max_tokens)
        self.seed = self.backend.fresh_seed() if seed is None else seed
        self.get_dataloader(train=True)  # a text that is too short is told of here

    def get_dataloader(self, train: bool) -> SequenceLoader | None:
        if not train:
            return None
        return SequenceLoader(
            self.train_ids,
            self.batch_size,
            self.num_steps,
            self.use_random_iter,
            asarray=self.backend.asarray,
            seed=[self.seed, 1],
        )
