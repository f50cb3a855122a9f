import math

import pytest

from installed import INSTALLED


def checks(report):
    """What the doctor says of every framework's numbers."""
    return [line.strip() for line in report.out.splitlines() if "reference" in line]


def test_the_doctor_compares_every_installed_framework_with_the_reference(unrolled):
    lines = checks(unrolled("doctor"))
    assert len(lines) == len(INSTALLED)
    for line in lines:
        words, number = line.split(": ")
        assert words == "largest difference from the reference"
        assert float(number) < 1e-5


@pytest.mark.parametrize("difference", [0.02, math.inf, math.nan])
def test_the_doctor_calls_wrong_numbers_wrong(unrolled, monkeypatch, difference):
    monkeypatch.setattr("unrolled.selfcheck.compare", lambda framework: difference)
    report = unrolled("doctor")
    assert report.code == 0
    assert len(checks(report)) == len(INSTALLED)
    assert all("WRONG" in line for line in checks(report))


def test_the_doctor_goes_on_where_a_framework_cannot_train(unrolled, monkeypatch):
    def fail(framework):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr("unrolled.selfcheck.compare", fail)
    report = unrolled("doctor")
    assert report.code == 0
    assert report.out.count("cannot train: RuntimeError: no kernel image is available") == len(
        INSTALLED
    )


def test_the_doctor_says_which_engine_is_the_fastest_on_the_gpu(unrolled, monkeypatch):
    def fail(framework):
        raise RuntimeError("the GPU is lost")

    monkeypatch.setattr("unrolled.selfcheck.compare", lambda framework: 0.0)
    for on_gpu, told in (
        (lambda framework: ["lstm: a 1 ms, b 2 ms"], " GPU: lstm: a 1 ms, b 2 ms\n"),
        (fail, "cannot compare engines on the GPU: RuntimeError: the GPU is lost"),
    ):
        monkeypatch.setattr("unrolled.doctor.on_gpu", on_gpu)
        report = unrolled("doctor")
        assert report.code == 0
        assert report.out.count(told) == len(INSTALLED)
