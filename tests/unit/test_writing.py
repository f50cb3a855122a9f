"""Files that are written whole or not at all."""

import pytest

from unrolled.writing import write_whole


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "there").mkdir()
    for target in (tmp_path / "there", tmp_path / "no" / "such", tmp_path / "there" / ".."):
        with pytest.raises(OSError):  # noqa: PT011  # whichever the system has for it
            write_whole(target, b"content")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
