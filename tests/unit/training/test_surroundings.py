"""The surroundings that decide how a training rounds."""

from pathlib import Path

import pytest

from unrolled.training.surroundings import processor


def test_the_processor_is_known_where_no_more_files_can_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = processor()

    def fail(*arguments: object, **options: object) -> str:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "read_text", fail)
    assert processor() == before
