"""Parameters of native PyTorch models, nested and tied ones."""

import numpy as np
import pytest

from unrolled.errors import ParameterError
from unrolled.parameters import read

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from unrolled import torch as u  # noqa: E402


class NestMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.linear = nn.Linear(3, 2)

    def forward(self, X):
        return self.linear(self.net(X))


def tied():
    shared = nn.Linear(8, 8)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(8, 1))


def test_the_documents_example_has_its_shapes():
    net = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))
    net(torch.rand(2, 4))
    parameters = u.parameters(net)
    assert parameters["2.weight"].shape == (1, 8)
    assert parameters["2.bias"].shape == (1,)
    assert parameters["2.weight"].gradient is None


def test_nested_models_are_listed_in_order_with_totals():
    parameters = u.parameters(NestMLP())
    assert list(parameters) == [
        "net.0.weight",
        "net.0.bias",
        "net.2.weight",
        "net.2.bias",
        "linear.weight",
        "linear.bias",
    ]
    assert parameters.total == sum(p.numel() for p in NestMLP().parameters())
    assert parameters.rows()[0]["shape"] == (8, 4)
    assert "net.2.weight" in str(parameters)
    assert parameters._repr_html_().count("<tr>") == 1 + 6 + 1


def test_values_are_copies_and_gradients_are_those_of_backward():
    net = NestMLP()
    net(torch.ones(2, 4)).sum().backward()
    found = u.parameters(net)["linear.bias"]
    np.testing.assert_array_equal(found.gradient, [2.0, 2.0])
    assert found.gradient_norm == pytest.approx(8**0.5)
    found.values[:] = 7
    assert not (net.linear.bias == 7).any()


def test_tied_layers_are_listed_once_with_all_their_places():
    net = tied()
    parameters = u.parameters(net)
    assert len(parameters) == 6
    assert parameters["4.weight"].name == "2.weight"
    assert parameters["2.weight"].places == ("2.weight", "4.weight")
    with torch.no_grad():
        net[2].weight[0, 0] = 100
    assert u.parameters(net)["4.weight"].values[0, 0] == 100


def test_equal_values_are_not_tied():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].load_state_dict(net[0].state_dict())
    assert len(u.parameters(net)) == 4


def test_one_call_ties_and_the_gradient_is_the_sum_over_both_uses():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False))
    net[2].load_state_dict(net[0].state_dict())
    X = torch.rand(5, 3)
    net(X).sum().backward()
    apart = [net[0].weight.grad.clone(), net[2].weight.grad.clone()]
    parameters = u.parameters(net)
    parameters.tie("2.weight", to="0.weight")
    assert len(parameters) == 1
    assert net[2].weight is net[0].weight
    net.zero_grad()
    net(X).sum().backward()
    expected = (apart[0] + apart[1]).numpy()
    np.testing.assert_allclose(parameters["2.weight"].gradient, expected, rtol=1e-6)


def test_tying_different_shapes_is_refused():
    net = NestMLP()
    with pytest.raises(ParameterError, match="only parameters of equal shape"):
        u.parameters(net).tie("linear.weight", to="net.0.weight")
    assert len(u.parameters(net)) == 6


def test_a_wrong_name_suggests_the_nearest():
    with pytest.raises(ParameterError, match=r"did you mean 'linear\.weight'"):
        u.parameters(NestMLP())["linear.wheight"]


def test_ties_survive_saving_and_loading(tmp_path):
    net = tied()
    u.parameters(net).save(tmp_path / "net.safetensors")
    values, ties = read(tmp_path / "net.safetensors")
    assert len(values) == 6
    assert ties == {"4.weight": "2.weight", "4.bias": "2.bias"}
    for other in (tied(), untied()):
        u.parameters(other).load(tmp_path / "net.safetensors")
        assert other[4].weight is other[2].weight
        X = torch.rand(2, 4)
        torch.testing.assert_close(other(X), net(X))


def untied():
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1)
    )


def test_a_file_of_an_untied_model_does_not_fit_a_tied_one(tmp_path):
    u.parameters(untied()).save(tmp_path / "net.safetensors")
    net = tied()
    before = u.parameters(net)["2.weight"].values
    with pytest.raises(ParameterError, match="tied"):
        u.parameters(net).load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(u.parameters(net)["2.weight"].values, before)


def test_every_name_that_does_not_fit_is_told_and_nothing_is_loaded(tmp_path):
    u.parameters(NestMLP()).save(tmp_path / "net.safetensors")
    net = untied()
    before = u.parameters(net)["0.weight"].values
    with pytest.raises(ParameterError) as error:
        u.parameters(net).load(tmp_path / "net.safetensors")
    assert "linear.bias: unexpected" in str(error.value)
    assert "0.weight: missing" in str(error.value)
    np.testing.assert_array_equal(u.parameters(net)["0.weight"].values, before)


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", None])
def test_files_that_are_no_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "net.safetensors"
    if content is None:
        u.parameters(NestMLP()).save(path)
        content = path.read_bytes()[:-5]  # cut short
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="damaged or no safetensors file"):
        u.parameters(NestMLP()).load(path)
    with pytest.raises(ParameterError, match="does not exist"):
        u.parameters(NestMLP()).load(tmp_path / "other")
