"""Models for which no machine has room."""

import pytest

from unrolled.errors import SettingError
from unrolled.experiments.memory import check_memory


@pytest.mark.parametrize(("layers", "H"), [(1, 10**7), (10**9, 512)])
def test_a_model_too_large_is_refused_at_once(layers, H):
    with pytest.raises(SettingError, match=f"num_hiddens={H:,} in num_layers={layers:,} with 28"):
        check_memory("lstm", layers, 28, H)


def test_every_layer_counts(monkeypatch):
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 0}
    monkeypatch.setattr("os.sysconf", pages.get)
    # H = 2, V = 3: 3*2 + 2*2 + 2 in the first layer, 2*2 + 2*2 + 2 in others, 2*3 + 3 at the end
    pages["SC_PHYS_PAGES"] = 3 * 4 * (12 + 2 * 10 + 9)
    check_memory("rnn", 3, 3, 2)
    pages["SC_PHYS_PAGES"] -= 1
    with pytest.raises(SettingError, match="needs 0 GiB"):
        check_memory("rnn", 3, 3, 2)
