"""Trainings with exactly one known cause of trouble each, and healthy ones, in PyTorch on a CPU."""

from functools import cache, partial
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop, lr_scheduler  # noqa: E402

from unrolled.watch import watch  # noqa: E402


class Tagger(nn.Module):
    """A recurrent layer, and a linear one on its last output."""

    def __init__(self, cell=nn.LSTM, hidden=32, inputs=4, outputs=2, **options):
        super().__init__()
        self.rnn = cell(inputs, hidden, batch_first=True, **options)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, X):
        return self.head(self.rnn(X)[0][:, -1])


class Cut(Tagger):
    """The same, detached in between."""

    def forward(self, X):
        return self.head(self.rnn(X)[0][:, -1].detach())


class Language(nn.Module):
    """A small language model."""

    def __init__(self, cell=nn.RNN, vocabulary=12, hidden=24, tied=False):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, hidden)
        self.rnn = cell(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, X):
        return self.head(self.rnn(self.embed(X))[0]).flatten(0, 1)


rnn, gru = partial(Tagger, nn.RNN), partial(Tagger, nn.GRU)
relu = partial(Tagger, nn.RNN, nonlinearity="relu")


def mlp(*hidden, unit=nn.ReLU):
    widths = [6, *(hidden or (32,))]
    parts = [p for a, b in pairwise(widths) for p in (nn.Linear(a, b), unit())]
    return nn.Sequential(*parts, nn.Linear(widths[-1], 2))


def changed(make, change):
    """What makes a model and changes its weights."""

    def made():
        model = make()
        with torch.no_grad():
            change(model)
        return model

    return made


def scaled(make, factor, only="rnn"):
    def scale(model):
        for name, p in model.named_parameters():
            if only in name:
                p.mul_(factor)

    return changed(make, scale)


def normal(make, std):
    return changed(make, lambda m: [nn.init.normal_(p, 0, std) for p in m.rnn.parameters()])


def biased(make, gate, value):
    """Biases of one of an LSTM's gates, of 32 units each."""
    place = slice(32 * gate, 32 * gate + 32)
    return changed(make, lambda m: m.rnn.bias_ih_l0[place].fill_(value))


# what is learned


def early(g, T=20, batch=32):
    """Whether the first two inputs add up to more than 0."""
    X = torch.randn(batch, T, 4, generator=g)
    return X, (X[:, 0, 0] + X[:, 1, 0] > 0).long()


short, long = partial(early, T=8), partial(early, T=50)


def late(g, T=12, batch=32):
    """The same of the last two."""
    X, _ = early(g, T, batch)
    return X, (X[:, -1, 0] + X[:, -2, 0] > 0).long()


def large(g):
    X, y = late(g)
    return X * 200 + 100, y


def last_step(g):
    X, y = late(g)
    return X[:, -1:], y


def shuffled(g):
    X, y = late(g)
    return X, torch.randint(2, y.shape, generator=g)


def noisy(g):
    X, y = late(g, batch=4)
    return X, torch.where(torch.rand(y.shape, generator=g) < 0.1, 1 - y, y)


def flat(g, batch=32):
    X = torch.randn(batch, 6, generator=g)
    return X, (X[:, 0] * X[:, 1] > 0).long()


def six(g):
    return torch.eye(6), torch.arange(6) % 2


def text(g, T=16, batch=8):
    start = torch.randint(12, (batch, 1), generator=g)
    ids = (start + torch.arange(T + 1) * 5) % 12
    return ids[:, :-1], ids[:, 1:].flatten()


def rare(g):
    X, y = text(g)
    return X + 12 * torch.randint(30, (1,), generator=g) * (X == 3), y


def times_32(*given):
    return 32 * F.cross_entropy(*given)


# how


def train(
    model, optimizer, data=late, steps=120, clip=None, clipped=None, loss=F.cross_entropy,
    clear=True, each=lambda step: None, after=lambda loss: None, micro=1, **settings,
):  # fmt: skip
    """A training loop as people write it; gives its watch."""
    g = torch.Generator().manual_seed(1)
    optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
    with watch(model, **settings) as watched:
        for step in range(steps):
            each(step)
            for o in optimizers * clear:
                o.zero_grad()
            for _ in range(micro):
                X, y = data(g)
                value = loss(model(X), y) / micro
                watched.loss(value.detach() * micro)
                value.backward()
            if clip:
                nn.utils.clip_grad_norm_((clipped or model).parameters(), clip)
            for o in optimizers:
                o.step()
            after(value.detach())
    return watched


def simple(make, kind, lr, options=None, **settings):
    """A run that needs nothing but a model, an optimizer and settings of the loop."""

    def run():
        model = make()
        return train(model, kind(model.parameters(), lr, **(options or {})), **settings)

    return run


def with_rates(make, kind, rate, **settings):
    """A run whose learning rate is a function of the step, from 0."""

    def run():
        model = make()
        optimizer = kind(model.parameters(), rate(0))
        (group,) = optimizer.param_groups
        return train(model, optimizer, each=lambda step: group.update(lr=rate(step)), **settings)

    return run


# sick


def unused(model):
    model.forgotten = nn.Linear(32, 32)


def not_in_optimizer():
    model = gru()
    return train(model, Adam(model.head.parameters(), 3e-3), early)


def clip_after_step():
    model = rnn()

    def too_late(loss):
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)

    return train(model, SGD(model.parameters(), 0.01), early, after=too_late)


def clip_of_the_head():
    model = scaled(rnn, 2)()

    def larger(g):
        X, y = early(g)
        return 10 * X, y

    optimizer = SGD(model.parameters(), 0.1)
    return train(model, optimizer, larger, 60, clip=0.01, clipped=model.head)


def log_of_zero():
    steps = iter(range(1000))

    def loss(logits, y):
        p = logits.softmax(-1)
        if next(steps) == 50:
            p = p * 0
        return -(p[range(len(y)), y].log()).mean()

    return simple(gru, Adam, 3e-3, loss=loss, steps=60)()


def nan_in_the_data():
    steps = iter(range(1000))

    def data(g):
        X, y = late(g)
        return X + (float("nan") if next(steps) == 40 else 0), y

    return simple(gru, Adam, 3e-3, data=data, steps=60)()


def moved_through_data():
    model = gru()
    with watch(model) as watched:
        for _ in range(110):
            X, y = late(torch.default_generator)
            model.zero_grad()
            F.cross_entropy(model(X), y).backward()
            for p in model.parameters():
                p.data.add_(p.grad.data, alpha=-0.05)
    return watched


SICK = {
    "tiny rate, AdamW": ("step too small", simple(Tagger, AdamW, 1e-7, data=early)),
    "tiny rate, SGD": ("step too small", simple(gru, SGD, 1e-6)),
    "rate of 0": ("step too small", simple(rnn, Adam, 0.0)),
    "wide tanh": (
        "saturated", simple(normal(partial(rnn, 64), 3), AdamW, 2e-3, clip=1.0, data=long),
    ),
    "exploding ReLU": (
        "exploded", simple(normal(partial(relu, 64), 1), AdamW, 2e-3, clip=1.0, data=long),
    ),
    "saturated gates": ("gates saturated", simple(scaled(Tagger, 80), SGD, 0.05, data=early)),
    "input gates shut": ("gates saturated", simple(biased(Tagger, 0, -20), Adam, 1e-3)),
    "unused": ("not used", simple(changed(gru, unused), Adam, 3e-3)),
    "detached": ("no gradient", simple(partial(Cut, nn.GRU), Adam, 3e-3)),
    "not in the optimizer": ("not in the optimizer", not_in_optimizer),
    "exploding at once": (
        "exploded",
        simple(scaled(partial(rnn, 64), 6, "weight_hh"), SGD, 0.3, data=long, loss=times_32),
    ),
    "gradients not cleared": ("gradients not cleared", simple(gru, SGD, 0.3, clear=False)),
    "clipped after the step": ("clipping without effect", clip_after_step),
    "clipped in part": ("clipping without effect", clip_of_the_head),
    "clipped to nothing": ("clipped nearly always", simple(gru, SGD, 0.1, clip=1e-3)),
    "Adam at 1": ("step too large", simple(Tagger, Adam, 1.0, data=early)),
    "SGD at 100": ("step too large", simple(mlp, SGD, 100.0, data=flat)),
    "summed loss": ("step too large", simple(gru, SGD, 1.0, loss=times_32, data=early)),
    "log of 0": ("NaN", log_of_zero),
    "NaN in the data": ("NaN", nan_in_the_data),
    "vanishing tanh": ("vanished", simple(rnn, Adam, 1e-3, data=long)),
    "shuffled labels": ("plateau", simple(gru, Adam, 3e-3, data=shuffled)),
    "dead ReLU": (
        "zero gradient",
        simple(changed(mlp, lambda m: m[0].bias.fill_(-50)), Adam, 1e-3, data=flat),
    ),
    "dead after a spike": (
        "step too large", with_rates(mlp, SGD, lambda step: 3e4 if step == 30 else 0.1, data=flat),
    ),
    "weight decay": (
        "weight decay too strong", simple(gru, SGD, 0.1, {"weight_decay": 1.0}),
    ),
    "moved through .data": ("nothing recorded", moved_through_data),
    "rate jumps": ("step too large", with_rates(Tagger, Adam, lambda s: 3e-3 if s < 60 else 3.0)),
    "large inputs": ("saturated", simple(rnn, SGD, 1e-3, data=large)),
    "one time step": ("zero gradient", simple(rnn, Adam, 3e-3, data=last_step, steps=60)),
}  # fmt: skip
"""By what is wrong: the finding that must come first, and the run."""


# healthy


def warm_up():
    model = gru()
    optimizer = AdamW(model.parameters(), 1e-2)
    parts = [
        lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=20),
        lr_scheduler.CosineAnnealingLR(optimizer, 130),
    ]
    schedule = lr_scheduler.SequentialLR(optimizer, parts, [20])
    return train(model, optimizer, steps=150, after=lambda loss: schedule.step())


def fine_tuning():
    model = gru()
    train(model, Adam(model.parameters(), 1e-2))
    model.rnn.requires_grad_(False)
    model.head.reset_parameters()
    return train(model, Adam(model.head.parameters(), 1e-2))


def goes_on():
    model = mlp(32)
    train(model, Adam(model.parameters(), 1e-2), flat, 300)
    return train(model, Adam(model.parameters(), 1e-4), flat, 60)


def adversarial():
    torch.manual_seed(3)
    model = nn.ModuleDict(
        {"G": mlp(16), "D": nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))}
    )
    of = {name: Adam(part.parameters(), 2e-3, betas=(0.5, 0.9)) for name, part in model.items()}
    score = F.binary_cross_entropy_with_logits
    with watch(model) as watched:
        for _ in range(100):
            fake = model["G"](torch.randn(32, 6))
            real = torch.randn(32, 2) + 2
            of["D"].zero_grad()
            loss = score(model["D"](real), torch.ones(32, 1))
            loss = loss + score(model["D"](fake.detach()), torch.zeros(32, 1))
            watched.loss(loss)
            loss.backward()
            of["D"].step()
            of["G"].zero_grad()
            loss = score(model["D"](fake), torch.ones(32, 1))
            watched.loss(loss)
            loss.backward()
            of["G"].step()
    return watched


def mixed():
    model = Language(nn.GRU)
    embedding = SGD(model.embed.parameters(), 0.5)
    rest = Adam([p for n, p in model.named_parameters() if "embed" not in n], 5e-3)
    return train(model, [embedding, rest], text)


def on_plateau():
    model = mlp(32)
    optimizer = Adam(model.parameters(), 1e-2)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=20)
    return train(model, optimizer, flat, 300, after=lambda loss: schedule.step(loss.item()))


identity = simple(
    changed(relu, lambda m: nn.init.eye_(m.rnn.weight_hh_l0)), Adam, 1e-3, steps=200, clip=1.0
)

HEALTHY = {
    "tanh, Adam": simple(rnn, Adam, 5e-3, steps=200),
    "GRU, Adam, clipped": simple(
        partial(gru, 48), Adam, 5e-3, data=short, clip=0.02, steps=300
    ),
    "LSTM, forget bias": simple(
        biased(Tagger, 1, 1.0), Adam, 1e-2, data=short, steps=200, clips_at=5.0, clip=5.0
    ),
    "ReLU from the identity": identity,
    "MLP": simple(mlp, Adam, 1e-2, data=flat, steps=200),
    "language model, SGD, clipped": simple(Language, SGD, 1.0, data=text, clip=1.0, steps=150),
    "at zero loss": simple(mlp, Adam, 3e-2, data=six, steps=300),
    "noisy": simple(gru, SGD, 0.1, {"momentum": 0.9}, data=noisy, steps=300),
    "warm-up and cosine": warm_up,
    "fine-tuning": fine_tuning,
    "accumulation": simple(Tagger, Adam, 1e-2, micro=4, steps=80),
    "five steps": simple(Tagger, Adam, 1e-3, steps=5),
    "adversarial": adversarial,
    "tied": simple(partial(Language, nn.LSTM, tied=True), Adam, 1e-2, data=text),
    "rare rows": simple(partial(Language, nn.GRU, vocabulary=400), Adam, 1e-2, data=rare),
    "two optimizers": mixed,
    "rate on plateau": on_plateau,
    "RMSprop": simple(gru, RMSprop, 3e-3),
    "goes on": goes_on,
    "momentum, weight decay": simple(
        rnn, SGD, 0.05, {"momentum": 0.9, "weight_decay": 1e-4}, steps=200
    ),
    "Adagrad, GRU of two layers": simple(
        partial(gru, num_layers=2, dropout=0.1), Adagrad, 2e-2
    ),
}  # fmt: skip
"""Runs of which the diagnosis must not warn."""


CURED = {
    "tiny rate, SGD": ("raise the learning rate from 1e-06", simple(gru, SGD, 0.3, steps=200)),
    "Adam at 1": (
        "lower the learning rate from 1 to",
        simple(Tagger, Adam, 1e-2, data=partial(early, T=4), steps=200),
    ),
    "clipped to nothing": ("raise the threshold", simple(gru, SGD, 0.5, clip=0.3, steps=200)),
    "exploding ReLU": ("identity", identity),
    "weight decay": (
        "lower the weight decay from 1",
        simple(gru, SGD, 0.5, {"weight_decay": 1e-4}, steps=200),
    ),
    "gradients not cleared": ("zero_grad", simple(gru, SGD, 0.3, steps=200)),
    "large inputs": ("scale the inputs", simple(rnn, SGD, 0.2, steps=200)),
}
"""By sick run: what the remedy says, and the run with it."""


@cache
def trained(run):
    """The watch of a run, which is trained once."""
    torch.manual_seed(0)
    return run()


def sick(name):
    return trained(SICK[name][1])


def healthy(name):
    return trained(HEALTHY[name])
