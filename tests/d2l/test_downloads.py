"""The books' way to their data files, without a net."""

import pytest

from unrolled.d2l import text as downloads
from unrolled.data.text import time_machine
from unrolled.errors import DataError


@pytest.mark.parametrize("url", [downloads.DATA_URL + "timemachine.txt", "data/timemachine.txt"])
def test_the_text_is_where_it_says(url: str) -> None:
    with open(downloads.download(url, "nowhere", "a hash")) as file:
        assert file.read() == time_machine()


def test_a_table_of_names_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(downloads.DATA_HUB, "time_machine", ("timemachine.txt", "a hash"))
    assert downloads.download("time_machine") == downloads.download("timemachine.txt")


def test_other_files_are_not_to_be_had() -> None:
    with pytest.raises(DataError, match=r"'ptb\.zip'.*timemachine\.txt comes with the package"):
        downloads.download("ptb.zip")
