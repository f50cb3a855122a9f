from types import SimpleNamespace

from unrolled.experiments.compile_once import CompileOnce


def test_a_model_is_compiled_again_only_when_it_is_another():
    compiled = []
    backend = SimpleNamespace(compile=lambda model: compiled.append(model) or f"compiled {model}")
    once = CompileOnce(backend)
    assert [once(model) for model in ("a", "a", "b", "b", "a")] == [
        f"compiled {model}" for model in "aabba"
    ]
    assert compiled == ["a", "b", "a"]
