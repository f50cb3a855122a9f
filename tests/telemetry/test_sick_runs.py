"""Runs with one known cause each: it is named first, and nobody who is well is warned.

The ordinary tests train one run of each cause, and every third healthy one; ``make test-long``
trains all of them, and those that followed the remedy.
"""

from itertools import compress, cycle

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


def some(names, ordinary):
    """Parameters for all names, marked as long where they are not ordinary ones."""
    long = pytest.mark.long
    return [pytest.param(n, marks=[] if n in ordinary else [long]) for n in names]


ONE_OF_A_CAUSE = {cause: name for name, (cause, _) in reversed(sick_runs.SICK.items())}.values()
EVERY_THIRD = [*compress(sick_runs.HEALTHY, cycle([1, 0, 0]))]


def warnings_of(findings):
    return [finding for finding in findings if finding.severity != "note"]


@pytest.mark.filterwarnings("ignore:watch. the weights have moved:RuntimeWarning")
@pytest.mark.parametrize("name", some(sick_runs.SICK, ONE_OF_A_CAUSE))
def test_the_cause_of_a_sick_run_comes_first(name):
    expected, run = sick_runs.SICK[name]
    findings = warnings_of(run())
    assert findings
    root = findings[0]
    assert (root.name, root.follows_from) == (expected, None)
    assert root.remedy
    for finding in findings[1:]:
        assert finding.follows_from in (None, *(other.name for other in findings))


@pytest.mark.parametrize("name", some(sick_runs.HEALTHY, EVERY_THIRD))
def test_a_healthy_run_gets_no_warning(name):
    assert warnings_of(sick_runs.HEALTHY[name]()) == []


@pytest.mark.long
@pytest.mark.parametrize("name", sick_runs.CURED)
def test_the_remedy_helps(name):
    said, run = sick_runs.CURED[name]
    _, sick = sick_runs.SICK[name]
    assert said in warnings_of(sick())[0].remedy
    assert warnings_of(run()) == []
