import importlib.metadata
import importlib.util

import pytest

import unrolled
from unrolled import d2l, frameworks, nndl
from unrolled.errors import MissingFrameworkError, SettingError

METADATA = [
    "numpy>=1.23",
    'torch>=2.2; extra == "torch"',
    "jax>=0.4 ; extra == 'jax'",
    'optax; python_version > "3.8" and extra == "jax"',
    'pytest>=8; extra == "dev"',
]


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("name", frameworks.FRAMEWORKS)
def test_a_framework_is_known_by_its_name(name):
    assert frameworks.check(name) == name


@pytest.mark.parametrize("use", ["check", "is_installed", "load"])
@pytest.mark.parametrize("name", ["Torch", "pytorch", "numpy", "", "errors"])
def test_another_name_is_an_error_that_lists_the_known_ones(use, name):
    with pytest.raises(SettingError, match=f"unknown framework '{name}'") as caught:
        getattr(frameworks, use)(name)
    assert f"here are: {', '.join(frameworks.FRAMEWORKS)}" in str(caught.value)
    assert ("did you mean 'torch'" in str(caught.value)) or name != "pytorch"


def test_a_framework_is_looked_for_by_its_own_name(monkeypatch):
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name) or object())
    assert frameworks.is_installed("torch") is True
    assert asked == ["torch"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("torch", 'pip install "torch>=2.2"'),
        ("jax", 'pip install "jax>=0.4" "optax"'),
        ("other", 'pip install "other"'),
    ],
)
def test_the_install_command_asks_for_what_the_package_declares(monkeypatch, name, command):
    monkeypatch.setattr(importlib.metadata, "requires", lambda package: METADATA)
    assert frameworks.install_command(name) == command


@pytest.mark.parametrize("requirements", [None, importlib.metadata.PackageNotFoundError])
def test_the_install_command_works_without_requirements_and_from_a_source_tree(
    monkeypatch, requirements
):
    def requires(package):
        if requirements:
            raise requirements(package)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert frameworks.install_command("torch") == 'pip install "torch"'


@pytest.mark.parametrize("name", frameworks.FRAMEWORKS)
def test_a_missing_framework_is_an_error_with_the_command_that_installs_it(nothing_installed, name):
    with pytest.raises(MissingFrameworkError) as caught:
        frameworks.load(name)
    assert frameworks.is_installed(name) is False
    assert f"{frameworks.FRAMEWORKS[name]} is not installed" in str(caught.value)
    assert frameworks.install_command(name) in str(caught.value)


@pytest.mark.parametrize("package", [unrolled, d2l, nndl])
def test_a_missing_framework_is_an_import_error_from_the_packages_too(nothing_installed, package):
    with pytest.raises(ImportError, match="PyTorch is not installed"):
        package.__getattr__("torch")


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="'unrolled' has no attribute 'nowhere'"):
        _ = unrolled.nowhere
    assert set(unrolled.__all__) <= {"Checkpoints", "__version__", *frameworks.FRAMEWORKS}
