"""Trainings with exactly one known cause of trouble each, and healthy ones, in PyTorch on a CPU.

python tests/telemetry/sick_runs.py     # prints what the diagnosis says of each
"""

import sys
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch.optim import SGD, Adam, AdamW, RMSprop, lr_scheduler  # noqa: E402

from unrolled.watch import watch  # noqa: E402


class Tagger(nn.Module):
    """A recurrent layer, and a linear one on its last output."""

    def __init__(self, cell=nn.LSTM, hidden=32, inputs=4, outputs=2, **options):
        super().__init__()
        self.rnn = cell(inputs, hidden, batch_first=True, **options)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, X):
        return self.head(self.rnn(X)[0][:, -1])


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


def early(g, T=20, batch=32):
    """Whether the first two inputs add up to more than 0."""
    X = torch.randn(batch, T, 4, generator=g)
    return X, (X[:, 0, 0] + X[:, 1, 0] > 0).long()


def long(g):
    return early(g, 50)


def six(g):
    return torch.eye(6), torch.arange(6) % 2


def times_32(*given):
    return 32 * F.cross_entropy(*given)


def late(g, T=12, batch=32):
    """The same of the last two."""
    X, _ = early(g, T, batch)
    return X, (X[:, -1, 0] + X[:, -2, 0] > 0).long()


def flat(g, batch=32):
    X = torch.randn(batch, 6, generator=g)
    return X, (X[:, 0] * X[:, 1] > 0).long()


def text(g, T=16, batch=8):
    start = torch.randint(12, (batch, 1), generator=g)
    ids = (start + torch.arange(T + 1) * 5) % 12
    return ids[:, :-1], ids[:, 1:].flatten()


def mlp(*hidden, unit=nn.ReLU):
    widths = [6, *(hidden or (32,))]
    parts = [p for a, b in pairwise(widths) for p in (nn.Linear(a, b), unit())]
    return nn.Sequential(*parts, nn.Linear(widths[-1], 2))


def train(
    model, optimizer, data=late, steps=120, clip=None, loss=F.cross_entropy, clear=True,
    each=lambda step: None, after=lambda: None, micro=1, **settings,
):  # fmt: skip
    """A training loop as people write it; gives the findings."""
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
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            for o in optimizers:
                o.step()
            after()
        return watched.diagnose()


def simple(make, kind, lr, options=None, **settings):
    """A run that needs nothing but a model, an optimizer and settings of the loop."""

    def run():
        model = make()
        return train(model, kind(model.parameters(), lr, **(options or {})), **settings)

    return run


def scaled(make, factor, only="rnn"):
    """A model whose weights are multiplied."""

    def made():
        model = make()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if only in name:
                    p.mul_(factor)
        return model

    return made


def normal(make, std):
    def made():
        model = make()
        for p in model.rnn.parameters():
            nn.init.normal_(p, 0, std)
        return model

    return made


# sick


def unused():
    model = Tagger(nn.GRU)
    model.forgotten = nn.Linear(32, 32)
    return train(model, Adam(model.parameters(), 3e-3))


def detached():
    class Cut(Tagger):
        def forward(self, X):
            return self.head(self.rnn(X)[0][:, -1].detach())

    model = Cut(nn.GRU)
    return train(model, Adam(model.parameters(), 3e-3))


def not_in_optimizer():
    model = Tagger(nn.GRU)
    return train(model, Adam(model.head.parameters(), 3e-3), early)


def uncleared():
    model = Tagger(nn.GRU)
    return train(model, SGD(model.parameters(), 0.3), clear=False)


def clip_after_step():
    model = Tagger(nn.RNN)

    def too_late():
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)

    return train(model, SGD(model.parameters(), 0.01), early, after=too_late)


def clip_of_the_head():
    model = scaled(lambda: Tagger(nn.RNN), 2)()
    g = torch.Generator().manual_seed(1)
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model) as watched:
        for _ in range(60):
            X, y = early(g)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(10 * X), y)
            watched.loss(loss)
            loss.backward()
            nn.utils.clip_grad_norm_(model.head.parameters(), 0.01)
            optimizer.step()
        return watched.diagnose()


def log_of_zero():
    steps = iter(range(1000))

    def loss(logits, y):
        p = logits.softmax(-1)
        if next(steps) == 50:
            p = p * 0
        return -(p[range(len(y)), y].log()).mean()

    model = Tagger(nn.GRU)
    return train(model, Adam(model.parameters(), 3e-3), loss=loss, steps=60)


def nan_in_the_data():
    steps = iter(range(1000))

    def data(g):
        X, y = late(g)
        return X + (float("nan") if next(steps) == 40 else 0), y

    model = Tagger(nn.GRU)
    return train(model, Adam(model.parameters(), 3e-3), data, steps=60)


def shuffled_labels():
    def data(g):
        X, y = late(g)
        return X, torch.randint(2, y.shape, generator=g)

    model = Tagger(nn.GRU)
    return train(model, Adam(model.parameters(), 3e-3), data)


def dead_units():
    model = mlp(32)
    nn.init.constant_(model[0].bias, -50)
    return train(model, Adam(model.parameters(), 1e-3), flat)


def dead_after_a_spike():
    model = mlp(32)
    optimizer = SGD(model.parameters(), 0.1)

    def each(step):
        optimizer.param_groups[0]["lr"] = 3e4 if step == 30 else 0.1

    return train(model, optimizer, flat, each=each)


def moved_through_data():
    model = Tagger(nn.GRU)
    with watch(model) as watched:
        for _ in range(110):
            X, y = late(torch.default_generator)
            model.zero_grad()
            F.cross_entropy(model(X), y).backward()
            for p in model.parameters():
                p.data.add_(p.grad.data, alpha=-0.05)
        return watched.diagnose()


def rate_jumps():
    model = Tagger(nn.LSTM)
    optimizer = Adam(model.parameters(), 3e-3)

    def each(step):
        optimizer.param_groups[0]["lr"] = 3e-3 if step < 60 else 3.0

    return train(model, optimizer, each=each)


def large_inputs():
    def data(g):
        X, y = late(g)
        return X * 200 + 100, y

    model = Tagger(nn.RNN)
    return train(model, SGD(model.parameters(), 1e-3), data)


def input_gate_shut():
    model = Tagger(nn.LSTM)
    nn.init.constant_(model.rnn.bias_ih_l0[:32], -20)
    return train(model, Adam(model.parameters(), 1e-3))


def steps_of_one():
    def data(g):
        X, y = late(g)
        return X[:, -1:], y

    model = Tagger(nn.RNN)
    return train(model, Adam(model.parameters(), 3e-3), data, steps=60)


SICK = {
    "tiny rate, AdamW": ("step too small", simple(Tagger, AdamW, 1e-7, data=early)),
    "tiny rate, SGD": ("step too small", simple(lambda: Tagger(nn.GRU), SGD, 1e-6)),
    "rate of 0": ("step too small", simple(lambda: Tagger(nn.RNN), Adam, 0.0)),
    "wide tanh": (
        "saturated",
        simple(normal(lambda: Tagger(nn.RNN, 64), 3), AdamW, 2e-3, clip=1.0, data=long),
    ),
    "exploding ReLU": (
        "exploded",
        simple(
            normal(lambda: Tagger(nn.RNN, 64, nonlinearity="relu"), 1), AdamW, 2e-3, clip=1.0,
            data=long,
        ),
    ),
    "saturated gates": ("gates saturated", simple(scaled(Tagger, 80), SGD, 0.05, data=early)),
    "input gates shut": ("gates saturated", input_gate_shut),
    "unused": ("not used", unused),
    "detached": ("no gradient", detached),
    "not in the optimizer": ("not in the optimizer", not_in_optimizer),
    "exploding at once": (
        "exploded",
        simple(
            scaled(lambda: Tagger(nn.RNN, 64), 6, "weight_hh"), SGD, 0.3, data=long,
            loss=times_32,
        ),
    ),
    "gradients not cleared": ("gradients not cleared", uncleared),
    "clipped after the step": ("clipping without effect", clip_after_step),
    "clipped in part": ("clipping without effect", clip_of_the_head),
    "clipped to nothing": (
        "clipped nearly always", simple(lambda: Tagger(nn.GRU), SGD, 0.1, clip=1e-3),
    ),
    "Adam at 1": ("step too large", simple(Tagger, Adam, 1.0, data=early)),
    "SGD at 100": ("step too large", simple(mlp, SGD, 100.0, data=flat)),
    "summed loss": (
        "step too large",
        simple(lambda: Tagger(nn.GRU), SGD, 1.0, loss=times_32, data=early),
    ),
    "log of 0": ("NaN", log_of_zero),
    "NaN in the data": ("NaN", nan_in_the_data),
    "vanishing tanh": (
        "vanished",
        simple(lambda: Tagger(nn.RNN), Adam, 1e-3, data=lambda g: early(g, 50)),
    ),
    "shuffled labels": ("plateau", shuffled_labels),
    "dead ReLU": ("zero gradient", dead_units),
    "dead after a spike": ("step too large", dead_after_a_spike),
    "weight decay": (
        "weight decay too strong",
        simple(lambda: Tagger(nn.GRU), SGD, 0.1, {"weight_decay": 1.0}),
    ),
    "moved through .data": ("nothing recorded", moved_through_data),
    "rate jumps": ("step too large", rate_jumps),
    "large inputs": ("saturated", large_inputs),
    "one time step": ("zero gradient", steps_of_one),
}  # fmt: skip
"""By what is wrong: the finding that must come first, and the run."""


# healthy


def warm_up(kind=AdamW):
    model = Tagger(nn.GRU)
    optimizer = kind(model.parameters(), 1e-2)
    schedule = lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=20),
            lr_scheduler.CosineAnnealingLR(optimizer, 130),
        ],
        [20],
    )
    return train(model, optimizer, steps=150, after=schedule.step)


def fine_tuning():
    model = Tagger(nn.GRU)
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
        return watched.diagnose()


def mixed():
    model = Language(nn.GRU)
    embedding = SGD(model.embed.parameters(), 0.5)
    rest = Adam([p for n, p in model.named_parameters() if "embed" not in n], 5e-3)
    return train(model, [embedding, rest], text)


def on_plateau():
    model = mlp(32)
    optimizer = Adam(model.parameters(), 1e-2)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=20)
    with watch(model) as watched:
        g = torch.Generator().manual_seed(1)
        for _ in range(300):
            X, y = flat(g)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X), y)
            watched.loss(loss)
            loss.backward()
            optimizer.step()
            schedule.step(loss.item())
        return watched.diagnose()


def forget_bias():
    model = Tagger(nn.LSTM)
    nn.init.constant_(model.rnn.bias_ih_l0[32:64], 1.0)
    return train(
        model, Adam(model.parameters(), 1e-2), lambda g: early(g, 8), 200, clips_at=5.0, clip=5.0
    )


def identity():
    model = Tagger(nn.RNN, nonlinearity="relu")
    nn.init.eye_(model.rnn.weight_hh_l0)
    return train(model, Adam(model.parameters(), 1e-3), steps=200, clip=1.0)


def rare_rows():
    def data(g):
        X, y = text(g)
        return X + 12 * torch.randint(30, (1,), generator=g) * (X == 3), y

    model = Language(nn.GRU, vocabulary=400)
    return train(model, Adam(model.parameters(), 1e-2), data)


def noisy():
    def data(g):
        X, y = late(g, batch=4)
        return X, torch.where(torch.rand(y.shape, generator=g) < 0.1, 1 - y, y)

    model = Tagger(nn.GRU)
    return train(model, SGD(model.parameters(), 0.1, momentum=0.9), data, 300)


HEALTHY = {
    "tanh, Adam": simple(lambda: Tagger(nn.RNN), Adam, 5e-3, steps=200),
    "GRU, Adam, clipped": simple(
        lambda: Tagger(nn.GRU, 48), Adam, 5e-3, data=lambda g: early(g, 8), clip=0.02, steps=300
    ),
    "LSTM, forget bias": forget_bias,
    "ReLU from the identity": identity,
    "MLP": simple(mlp, Adam, 1e-2, data=flat, steps=200),
    "language model, SGD, clipped": simple(Language, SGD, 1.0, data=text, clip=1.0, steps=150),
    "at zero loss": simple(mlp, Adam, 3e-2, data=six, steps=300),
    "noisy": noisy,
    "warm-up and cosine": warm_up,
    "fine-tuning": fine_tuning,
    "accumulation": simple(lambda: Tagger(nn.LSTM), Adam, 1e-2, micro=4, steps=80),
    "five steps": simple(Tagger, Adam, 1e-3, steps=5),
    "adversarial": adversarial,
    "tied": simple(lambda: Language(nn.LSTM, tied=True), Adam, 1e-2, data=text),
    "rare rows": rare_rows,
    "two optimizers": mixed,
    "rate on plateau": on_plateau,
    "RMSprop": simple(lambda: Tagger(nn.GRU), RMSprop, 3e-3),
    "goes on": goes_on,
    "momentum, weight decay": simple(
        lambda: Tagger(nn.RNN), SGD, 0.05, {"momentum": 0.9, "weight_decay": 1e-4}, steps=200
    ),
    "Adagrad, GRU of two layers": simple(
        lambda: Tagger(nn.GRU, num_layers=2, dropout=0.1), torch.optim.Adagrad, 2e-2
    ),
}  # fmt: skip
"""Runs of which the diagnosis must not warn."""


CURED = {
    "tiny rate, SGD": (
        "raise the learning rate from 1e-06",
        simple(lambda: Tagger(nn.GRU), SGD, 0.3, steps=200),
    ),
    "Adam at 1": (
        "lower the learning rate from 1 to",
        simple(Tagger, Adam, 1e-2, data=lambda g: early(g, 4), steps=200),
    ),
    "clipped to nothing": (
        "raise the threshold",
        simple(lambda: Tagger(nn.GRU), SGD, 0.5, clip=0.3, steps=200),
    ),
    "exploding ReLU": (
        "identity",
        identity,
    ),
    "weight decay": (
        "lower the weight decay from 1",
        simple(lambda: Tagger(nn.GRU), SGD, 0.5, {"weight_decay": 1e-4}, steps=200),
    ),
    "gradients not cleared": ("zero_grad", simple(lambda: Tagger(nn.GRU), SGD, 0.3, steps=200)),
    "large inputs": ("scale the inputs", simple(lambda: Tagger(nn.RNN), SGD, 0.2, steps=200)),
}
"""By sick run: what the remedy says, and the run with it."""


if __name__ == "__main__":
    torch.set_num_threads(1)
    sick = {name: (expected, run) for name, (expected, run) in SICK.items()}
    for name, (expected, run) in {
        **sick,
        **{n: (None, r) for n, r in HEALTHY.items()},
        **{"cured " + n: (None, r) for n, (_, r) in CURED.items()},
    }.items():
        if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
            continue
        torch.manual_seed(0)
        findings = run()
        warned = [f for f in findings if f.severity != "note"]
        right = (warned[0].name if warned else None) == expected
        print("ok  " if right else "BAD ", name, "| expected", expected)
        for f in findings:
            print("      ", f.severity, f.name, "|", f.text, "|", f.remedy)
