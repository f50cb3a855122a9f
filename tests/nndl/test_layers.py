"""The digit-sum layers, classifier, data set and metric, on every framework installed."""

import math

import numpy as np
import pytest

from installed import FRAMEWORK
from models import with_values
from unrolled.data.digit_sum import as_arrays, published
from unrolled.errors import DataError, ParameterError, SettingError
from unrolled.training.records import Listener

W, U, B = [[0.1, 0.2], [0.1, 0.2]], [[0.0, 0.1], [0.1, 0.0]], [[0.1, 0.1]]
CELLS = ("GRU", "BiSRN", "BiGRU", "BiLSTM")  # SRN and LSTM: the published cases


def array(nndl, values, dtype=np.float32):
    return nndl.backend.asarray(np.array(values, dtype))


def run(nndl, layer, inputs):
    return nndl.backend.to_numpy(with_values(layer, inputs)(inputs))


def classifier(nndl, cell="SRN", H=6, **options):
    layer = getattr(nndl, cell)(4, H, seed=0)
    return nndl.Model_RNN4SeqClass(layer, 10, 4, H, 19, seed=1, **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_published_case_of_the_srn(nndl):
    H = run(nndl, nndl.SRN(2, 2, W, U, B), array(nndl, [[[1, 0], [0, 2]]]))
    np.testing.assert_allclose(H, [[0.31774, 0.47750]], atol=5e-6)


def test_the_published_case_of_the_lstm(nndl):
    attrs = {f"{kind}{gate}_attr": value for kind, value in (("W", W), ("U", U), ("b", B))
             for gate in "ifoc"}  # fmt: skip
    inputs = array(nndl, [[[1, 0]]])
    np.testing.assert_allclose(
        run(nndl, nndl.LSTM(2, 2, attrs=attrs), inputs), [[0.05944, 0.09524]], atol=5e-6
    )
    if nndl.backend.name != "jax":  # whose modules have fields
        np.testing.assert_allclose(
            run(nndl, nndl.LSTM(2, 2, **attrs), inputs), [[0.05944, 0.09524]], atol=5e-6
        )


@pytest.mark.parametrize("cell", CELLS)
def test_every_layer_is_the_equations_by_hand(nndl, cell):
    X = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)
    layer = with_values(getattr(nndl, cell)(4, 5, seed=3), array(nndl, X))
    values = {n: nndl.backend.to_numpy(v) for n, v in nndl.backend.parameters(layer).items()}
    if cell.startswith("Bi"):
        halves = [
            by_hand(cell[2:], {n.partition(".")[2]: v for n, v in values.items() if d in n}, x)
            for d, x in (("forwards", X), ("backwards", X[:, ::-1]))
        ]
        expected = np.concatenate(halves, axis=-1)
    else:
        expected = by_hand(cell, values, X)
    found = nndl.backend.to_numpy(layer(array(nndl, X)))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def by_hand(cell, p, X):
    """The last state, step by step."""
    H = C = np.zeros((len(X), 5))
    for t in range(X.shape[1]):
        S = {n[1:]: X[:, t] @ v + p["b" + n[1:]] for n, v in p.items() if n[0] == "W"}
        P = {n[1:]: H @ v for n, v in p.items() if n[0] == "U"}
        if cell == "SRN":
            H = np.tanh(S[""] + P[""])
        elif cell == "GRU":
            Z, R = sigmoid(S["_z"] + P["_z"]), sigmoid(S["_r"] + P["_r"])
            H = Z * H + (1 - Z) * np.tanh(S["_h"] + R * (P["_h"] + p["b_hh"]))
        else:
            In, F, Out = (sigmoid(S[g] + P[g]) for g in ("_i", "_f", "_o"))
            C = F * C + In * np.tanh(S["_c"] + P["_c"])
            H = Out * np.tanh(C)
    return H


def test_a_state_to_begin_with_continues_a_sequence(nndl):
    X = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    for cell in ("SRN", "LSTM"):
        layer = with_values(getattr(nndl, cell)(4, 5, seed=3), array(nndl, X))
        _, state = layer.unroll(array(nndl, X[:, :2]))
        rest = layer(array(nndl, X[:, 2:]), state if cell == "LSTM" else state[0])
        whole = layer(array(nndl, X))
        to_numpy = nndl.backend.to_numpy
        np.testing.assert_allclose(to_numpy(rest), to_numpy(whole), atol=1e-6)


def test_the_gates_explain_the_cell_state(nndl):
    X = array(nndl, np.random.default_rng(0).normal(size=(3, 6, 4)))
    lstm = with_values(nndl.LSTM(4, 5, seed=3), X)
    inside = {name: nndl.backend.to_numpy(v) for name, v in lstm.gates(X).items()}
    assert {v.shape for v in inside.values()} == {(6, 3, 5)}
    np.testing.assert_allclose(
        inside["hidden"], inside["output"] * np.tanh(inside["cell"]), atol=1e-6
    )
    np.testing.assert_allclose(inside["hidden"][-1], nndl.backend.to_numpy(lstm(X)), atol=1e-6)
    # what the forget gate leaves over of the old state, the input gate has let in
    added = inside["cell"][1:] - inside["forget"][1:] * inside["cell"][:-1]
    assert (abs(added) <= inside["input"][1:] + 1e-6).all()


def test_initial_values_are_drawn_biases_too_and_depend_on_the_seed(nndl):
    X = array(nndl, np.zeros((1, 3, 32)))

    def values(seed):
        layer = with_values(nndl.SRN(32, 32, seed=seed), X)
        return {n: nndl.backend.to_numpy(v) for n, v in nndl.backend.parameters(layer).items()}

    first, again, other = values(0), values(0), values(1)
    assert {n: v.shape for n, v in first.items()} == {"W": (32, 32), "U": (32, 32), "b": (1, 32)}
    for name, value in first.items():
        assert np.unique(value).size == value.size  # none is zero by default
        assert abs(value).max() <= math.sqrt(6 / sum(value.shape))
        np.testing.assert_array_equal(value, again[name])
        assert not np.array_equal(value, other[name])
    both = with_values(nndl.BiSRN(32, 32, seed=0), X)
    matrices = {n: nndl.backend.to_numpy(v) for n, v in nndl.backend.parameters(both).items()}
    assert not np.array_equal(matrices["forwards.W"], matrices["backwards.W"])
    nndl.backend.seed(7)
    drawn = values(None)
    nndl.backend.seed(7)
    np.testing.assert_array_equal(drawn["W"], values(None)["W"])


def test_initial_values_that_do_not_fit_are_an_error(nndl):
    X = array(nndl, np.zeros((1, 3, 2)))
    for attrs, said in (
        ({"Wi_attr": [[1.0, 2.0]]}, r"Wi_attr has shape \(1, 2\); expected \(2, 2\)"),
        ({"Wz_attr": W}, "takes no Wz_attr; there are: Wi_attr"),
    ):
        with pytest.raises(ParameterError, match=said):
            with_values(nndl.LSTM(2, 2, attrs=attrs), X)


class Gradients(Listener):
    def __init__(self):
        self.losses = []

    def on_epoch(self, trainer, epoch):
        self.losses.append(epoch.val_loss)

    def on_gradients(self, trainer, gradients):
        to_numpy = trainer.backend.to_numpy
        self.norms = {name: np.linalg.norm(to_numpy(g)) for name, g in gradients.items()}


@pytest.mark.parametrize("cell", ["SRN", "BiGRU"])
def test_every_parameter_has_a_gradient_and_one_epoch_lowers_the_loss(nndl, cell):
    if cell == "BiGRU" and nndl.backend.name != FRAMEWORK:
        pytest.skip("one framework shows that both directions are reached")
    ear = Gradients()
    trainer = nndl.Trainer(3, listeners=[ear])
    model = classifier(nndl, cell, lr=0.01)
    trainer.fit(model, nndl.DigitSumData(5, 30, seed=0))
    values = trainer.bound_model.export_parameters()
    if cell == "SRN":  # under the published names
        assert {name: value.shape for name, value in values.items()} == {
            "embedding.W": (10, 4),
            "rnn_model.W": (4, 6),
            "rnn_model.U": (6, 6),
            "rnn_model.b": (1, 6),
            "linear.weight": (19, 6),
            "linear.bias": (19,),
        }
    assert ear.norms.keys() == values.keys()
    assert all(norm > 0 for norm in ear.norms.values())
    assert ear.losses[-1] < ear.losses[0] <= math.log(19) + 0.1


def test_a_summed_loss_has_the_gradient_of_the_mean_times_the_batch(nndl):
    norms = []
    for reduction in ("mean", "sum"):
        ear = Gradients()
        data = nndl.DigitSumData(5, 300, seed=0)
        model = classifier(nndl, reduction=reduction, optimizer="sgd", lr=1e-6)
        nndl.Trainer(1, listeners=[ear]).fit(model, data)
        norms.append(ear.norms)
    for name, norm in norms[0].items():
        assert norms[1][name] == pytest.approx(300 * norm, rel=1e-4)


@pytest.mark.parametrize(
    ("sizes", "options", "said"),
    [
        ((4, 6), {"optimizer": "adagrad"}, "optimizer is 'adagrad'; it must be adam or sgd"),
        ((4, 6), {"reduction": "max"}, "reduction is 'max'; it must be mean or sum"),
        ((5, 6), {}, "must be equal"),
        ((4, 7), {}, "must be equal"),
    ],
)
def test_choices_and_sizes_that_cannot_be_are_an_error(nndl, sizes, options, said):
    ids = array(nndl, [[1, 2, 3]], np.int64)
    with pytest.raises(SettingError, match=said):
        with_values(nndl.Model_RNN4SeqClass(nndl.SRN(4, 6), 10, *sizes, 19, **options), ids)


def test_both_sizes_are_accepted_for_two_directions(nndl):
    ids = array(nndl, [[1, 2, 3]], np.int64)
    for H in (6, 12):
        model = nndl.Model_RNN4SeqClass(nndl.BiSRN(4, 6), 10, 4, H, 19)
        assert tuple(with_values(model, ids)(ids).shape) == (1, 19)


def test_the_data_set_gives_integers_of_the_framework(nndl):
    examples = published([10])[10]["dev"]
    data = nndl.DigitSumDataset(examples)
    assert len(data) == 100
    for index in (0, 42, -1):
        sequence, label = data[index]
        assert nndl.backend.xp.is_integer(sequence)
        assert nndl.backend.xp.is_integer(label)
        assert nndl.backend.to_numpy(sequence).tolist() == examples[index][0]
        assert int(nndl.backend.to_numpy(label)) == examples[index][1]


def test_the_data_module_gives_the_published_examples(nndl):
    data = nndl.DigitSumData(10, seed=0)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 38
    to_numpy = nndl.backend.to_numpy
    rows = [np.column_stack([to_numpy(X), to_numpy(Y)]) for X, Y in batches]
    expected = [[*digits, label] for digits, label in published([10])[10]["train"]]
    assert sorted(np.concatenate(rows).tolist()) == sorted(expected)
    (X, _), *none = data.val_dataloader()
    assert not none
    np.testing.assert_array_equal(to_numpy(X), as_arrays(published([10])[10]["dev"])[0])
    with pytest.raises(SettingError, match="at least 3"):
        nndl.DigitSumData(2)


def test_accuracy_takes_arrays_of_the_framework_and_of_numpy(nndl):
    outputs, labels = np.eye(3, dtype=np.float32), np.array([0, 1, 1])
    for convert in (nndl.backend.asarray, np.asarray, list):
        accuracy = nndl.Accuracy()
        accuracy.update(convert(outputs), convert(labels))
        assert accuracy.accumulate() == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="does not fit"):
        nndl.Accuracy().update(nndl.backend.asarray(outputs), nndl.backend.asarray(labels[:2]))
