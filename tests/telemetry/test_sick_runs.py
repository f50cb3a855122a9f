"""Runs with one known cause each: it is named first, and nobody who is well is warned."""

import pytest

torch = pytest.importorskip("torch")

import sick_runs  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def warnings_of(findings):
    return [finding for finding in findings if finding.severity != "note"]


@pytest.mark.filterwarnings("ignore:watch. the weights have moved:RuntimeWarning")
@pytest.mark.parametrize("name", sick_runs.SICK)
def test_the_cause_of_a_sick_run_comes_first(name):
    expected, run = sick_runs.SICK[name]
    findings = warnings_of(run())
    assert findings
    root = findings[0]
    assert (root.name, root.follows_from) == (expected, None)
    assert root.remedy
    for finding in findings[1:]:
        assert finding.follows_from in (None, *(other.name for other in findings))


@pytest.mark.parametrize("name", sick_runs.HEALTHY)
def test_a_healthy_run_gets_no_warning(name):
    assert warnings_of(sick_runs.HEALTHY[name]()) == []


@pytest.mark.parametrize("name", sick_runs.CURED)
def test_the_remedy_helps(name):
    said, run = sick_runs.CURED[name]
    _, sick = sick_runs.SICK[name]
    assert said in warnings_of(sick())[0].remedy
    assert warnings_of(run()) == []
