"""`unrolled.Checkpoints`: loops that are killed, restored, and end as if nothing had been."""

import copy
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import own_loop_torch as own_loop  # noqa: E402
from torch import nn  # noqa: E402
from torch.optim import lr_scheduler  # noqa: E402

import unrolled  # noqa: E402
from exact_resume import same  # noqa: E402
from unrolled import Checkpoints, locking  # noqa: E402
from unrolled.backends import torch as backend  # noqa: E402
from unrolled.checkpoints import folder  # noqa: E402
from unrolled.errors import ResumeError, RunError, SettingError  # noqa: E402
from unrolled.torch import LanguageModel, TextData, Trainer  # noqa: E402
from unrolled.torch.object_state import named, objects_state  # noqa: E402
from unrolled.training.position import generators  # noqa: E402


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush nothing: no test of this process pulls the plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# a save flushes six times: its files, its folder before that is renamed, and the one around it
@pytest.mark.parametrize(("mode", "kills"), [("epochs", [9]), ("steps", [29, 19])])
def test_a_loop_killed_inside_its_saves_ends_as_one_that_was_not(
    tmp_path: Path, mode: str, kills: list[int]
) -> None:
    straight = own_loop.train(tmp_path / "straight", mode)
    reached = [0]
    for seed, number in enumerate(kills):
        done = in_a_process(own_loop.__file__, tmp_path / "killed", mode, number, seed)
        assert done.returncode == -signal.SIGKILL, done.stderr
        checkpoints = tmp_path / "killed/checkpoints"
        assert any(path.suffix == ".unfinished" for path in checkpoints.iterdir())
        reached.append(folder.newest(checkpoints)[0][0])
        assert locking.state(tmp_path / "killed") == "killed"
    assert reached == sorted({*reached})  # it went on each time
    assert own_loop.train(tmp_path / "killed", mode, seed=7) == straight
    assert own_loop.train(tmp_path / "other", mode, seed=3) != straight


def test_no_object_and_no_generator_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = own_loop.train(tmp_path / "straight", "steps")

    def resumed(left_out: int | None, seed: int) -> str:
        directory = tmp_path / f"{left_out} {seed}"
        own_loop.train(directory, "steps", stop=11, left_out=left_out)
        return own_loop.train(directory, "steps", seed, left_out=left_out)

    assert resumed(None, 1) == straight
    for left_out in (1, 2, 3):
        assert resumed(left_out, 2) != straight
    monkeypatch.setattr("unrolled.torch.object_state.load_generators", lambda *state: None)
    assert resumed(None, 3) != straight


def test_the_middle_of_an_epoch_of_data_that_draw_when_they_are_read(tmp_path: Path) -> None:
    straight = own_loop.train(tmp_path / "straight", "drawn")
    own_loop.train(tmp_path / "stopped", "drawn", stop=11)
    assert own_loop.train(tmp_path / "stopped", "drawn", seed=1) == straight


def everything(seed: int) -> list[Any]:
    """Objects of all kinds that share no random draw with those of another seed."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    tied = nn.Module()
    tied.a, tied.b = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
    tied.b.weight = tied.a.weight
    half = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.PReLU()).bfloat16()
    half[1].requires_grad_(seed == 0)
    half[1].train(seed == 0)
    tied.register_buffer("eighths", torch.rand(3).to(torch.float8_e4m3fn), persistent=False)
    tied.register_buffer("nothing", None)
    tied.register_buffer("complex", torch.rand(3, dtype=torch.complex64).conj())
    optimizer = torch.optim.SGD([*tied.parameters(), *half.parameters()], lr=1 + seed, momentum=0.9)
    for p in (*tied.parameters(), *half.parameters()):
        p.grad = torch.randn_like(p)
    first = lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=3)
    steps = lr_scheduler.MultiStepLR(optimizer, [2, 2, 5 + seed])
    scheduler = lr_scheduler.SequentialLR(optimizer, [first, steps], [2 + seed])
    optimizer.step()
    scheduler.step()
    average = torch.optim.swa_utils.AveragedModel(tied)
    average.update_parameters(tied)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**seed)
    own = Counts(seed)
    draws = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    return [tied, half, optimizer, scheduler, steps, average, scaler, own, *draws]


class Counts(nn.Module):
    """Keeps something beside its tensors."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.words = {f"word {count}": [count, torch.tensor([count])]}

    def get_extra_state(self) -> Any:
        return self.words

    def set_extra_state(self, state: Any) -> None:
        self.words = state


def snapshot(objects: list[Any]) -> Any:
    return copy.deepcopy([objects_state(named(objects)), generators(backend)])


def test_objects_of_all_kinds_are_as_they_were(tmp_path: Path) -> None:
    objects, others = everything(0), everything(1)
    with torch.no_grad():
        objects[1][0].bias.view(torch.int16)[:2] = torch.tensor([0x7FA1, -1])  # NaN with a payload
    with Checkpoints(tmp_path, *objects) as checkpoints:
        expected = snapshot(objects)
        assert checkpoints.save(7)
        assert same(snapshot(objects), expected)  # saving draws nothing
    before = [p for model in (others[0], others[1]) for p in model.parameters()]
    assert not same(snapshot(others)[0], expected[0])
    torch.rand(5)
    with Checkpoints(tmp_path, *others) as checkpoints:
        assert checkpoints.restore() == 7
    assert same(snapshot(others), expected)
    bits = [each[1][0].bias.view(torch.int16) for each in (objects, others)]
    assert torch.equal(*bits)
    after = [p for model in (others[0], others[1]) for p in model.parameters()]
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert others[0].a.weight is others[0].b.weight
    assert others[1][1].weight.requires_grad
    assert others[1][1].training
    assert type(others[4].milestones) is type(objects[4].milestones)
    assert others[-1].random() == objects[-1].random()


def test_a_compiled_model_and_one_on_several_devices_are_the_model(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with Checkpoints(
        tmp_path, torch.compile(nn.DataParallel(model), backend="eager")
    ) as checkpoints:
        checkpoints.save(1)
    checkpoints = Checkpoints(tmp_path, other)
    with pytest.raises(ResumeError, match="wrapper of Linear is none and was OptimizedModule"):
        checkpoints.restore()
    with pytest.warns(RuntimeWarning, match="not exact"):
        assert checkpoints.restore(force=True) == 1
    assert torch.equal(model.weight, other.weight)


def test_a_checkpoint_of_one_model_is_a_file_of_its_parameters(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    Checkpoints(tmp_path, model).save(12)
    loaded = load_file(tmp_path / "checkpoints/step-000012/model.safetensors")
    assert loaded.keys() == dict(model.named_parameters()).keys()
    assert torch.equal(loaded["0.weight"], model[0].weight)


def test_a_metric_keeps_what_it_has_counted_or_says_that_it_does_not(tmp_path: Path) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    metric, other = torchmetrics.MeanMetric(), torchmetrics.MeanMetric()
    with pytest.raises(
        SettingError, match=r"MeanMetric leaves mean_value, weight out .*persistent"
    ):
        Checkpoints(tmp_path, metric)
    for each in (metric, other):
        each.persistent(True)
        each.update(3.0)
    metric.update(8.0)
    with Checkpoints(tmp_path, metric) as checkpoints:
        checkpoints.save(2)
    Checkpoints(tmp_path, other).restore()
    for each in (metric, other):
        each.update(1.0)
    assert torch.equal(metric.compute(), other.compute())


class Keeps:
    def __init__(self, **state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        if state["a"] == self.state.get("most"):
            raise ValueError(f"{state['a']} is too much")
        self.state = state


def small(kind: Any = torch.optim.Adam, sizes: tuple[int, int] = (3, 2)) -> list[Any]:
    model = nn.Linear(*sizes)
    optimizer = kind(model.parameters())
    model(torch.ones(1, sizes[0])).sum().backward()
    optimizer.step()
    return [model, optimizer]


def reordered() -> list[Any]:
    model = nn.Linear(3, 2)
    return [model, torch.optim.Adam([*model.parameters()][::-1])]


def double() -> list[Any]:
    model = nn.Linear(3, 2).double()
    return [model, torch.optim.Adam(model.parameters())]


def frozen() -> list[Any]:
    model = nn.Linear(3, 2)
    return [model, torch.optim.Adam([model.weight])]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(sizes=(3, 4)), r"Linear: the values do not fit .*\n.*bias: has shape \(2"),
        (lambda: [small()[0].double()], "holds Linear, Adam; given are Linear. Give objects of"),
        (double, "Linear: 'weight' is float64 and was float32"),
        (lambda: small(torch.optim.SGD), "holds Linear, Adam; given are Linear, SGD"),
        (lambda: [*small(), nn.Linear(1, 1)], "given are Linear, Adam, Linear 2"),
        (reordered, r"Adam moves Linear\.bias in group 1 where Linear\.weight was"),
        (frozen, r"Adam has groups of \[1\] parameters; they were \[2\]"),
    ],
)  # fmt: skip
def test_other_objects_are_named_and_nothing_is_changed(
    tmp_path: Path, make: Any, words: str
) -> None:
    with Checkpoints(tmp_path, *small()) as checkpoints:
        checkpoints.save(5)
    others = make()
    before = snapshot(others)
    checkpoints = Checkpoints(tmp_path, *others)
    words = f"newest checkpoint in '.*' does not fit this training: .*{words}"
    with pytest.raises(ResumeError, match=words):
        checkpoints.restore(force=True)
    assert same(snapshot(others), before)


def test_where_an_object_refuses_its_state_all_are_put_back(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, *small(), Keeps(a=1)) as checkpoints:
        checkpoints.save(5)
    others = [*small(), Keeps(a=2, most=1)]
    before = snapshot(others)
    with pytest.raises(ResumeError, match=r"newest .* does not fit this training: 1 is too much"):
        Checkpoints(tmp_path, *others).restore()
    assert same(snapshot(others), before)


Layer = type("Dense", (), {"__module__": "keras.src.layers.core.dense"})


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([], "nothing to save is given"),
        ([{"lr": 1}], r"object 1 is a dict, of which .* nothing\. Give modules, optimizers"),
        ([nn.Linear(1, 1), nn.Linear], "object 2 is the class type|object 2 is the class Linear"),
        ([Keeps(a=1, f=lambda: 0)], r"Keeps has in 'f' a builtins\.function, which a checkpoint"),
        ([Keeps(a=[{1}])], r"Keeps has in 'a' a builtins\.set"),
        ([Keeps(a=torch.zeros(2).to(torch.float8_e5m2))], "Keeps has in 'a' .*Float8_e5m2"),
        ([nn.LazyLinear(3)], "'weight' has no values yet; give the model a minibatch first"),
        ([nn.Linear(2, 2, device="meta")], "'weight' is a Parameter of type torch.float32, which"),
        ([small()[1]], r"Adam moves a parameter of shape \(2, 3\) .*give the model, too"),
        ([Layer()], r"object 1 is a keras\..*Dense, not of PyTorch.*Trainer\(checkpoint="),
        ([m := nn.Linear(1, 1), nn.DataParallel(m)], "object 2, a Linear, is given twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_at_once(
    tmp_path: Path, objects: list[Any], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        Checkpoints(tmp_path / "new", *objects)
    assert not (tmp_path / "new").exists()


def test_wrong_settings(tmp_path: Path) -> None:
    for arguments, words in [
        ({"schedule": "every=2epochs"}, "schedule counts epochs, which save"),
        ({"schedule": "off"}, "schedule is off; leave it out"),
        ({"schedule": "1000"}, "sets nothing; write every="),
        ({"keep": 0}, "keep is 0; it must be a whole number"),
    ]:
        with pytest.raises(SettingError, match=words):
            Checkpoints(tmp_path, nn.Linear(1, 1), **arguments)
    with pytest.raises(SettingError, match="directory is a Linear; the first argument is the path"):
        Checkpoints(nn.Linear(1, 1), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be made: .*choose another directory"):
        Checkpoints(tmp_path / "file", nn.Linear(1, 1))


def test_a_schedule_says_which_calls_save_and_how_many_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, nn.Linear(1, 1), schedule="every=10steps,keep=3")
    saved = [step for step in range(0, 90, 3) if checkpoints.save(step, 1.0 if step == 12 else 2.0)]
    assert saved == [12, 21, 30, 42, 51, 60, 72, 81]
    assert folder.steps(checkpoints.folder) == [12, 60, 72, 81]
    checkpoints = Checkpoints(tmp_path / "time", nn.Linear(1, 1), schedule="every=1h", keep=1)
    assert not checkpoints.save(5)
    checkpoints._last -= 3600
    assert checkpoints.save(6)
    assert not checkpoints.save(7)


def test_steps_go_up_from_those_that_were_restored(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with Checkpoints(tmp_path, model) as checkpoints:
        assert checkpoints.restore() == 0
        checkpoints.save(np.int64(500))
    with pytest.raises(RunError, match=r"are closed: by close\(\)"):
        checkpoints.save(501)
    checkpoints = Checkpoints(tmp_path, model)
    with pytest.raises(
        RunError, match=r"holds checkpoints, the last of step 500: call restore\(\)"
    ):
        checkpoints.save(1)
    assert checkpoints.restore() == 500
    with pytest.raises(SettingError, match="step is 1 and was 500 before; count on from"):
        checkpoints.save(1)
    for step in (True, -1, 1.5, "7", None, 10**16):
        with pytest.raises(SettingError, match="it must be a whole number from 0 on"):
            checkpoints.save(step)  # type: ignore[arg-type]
    assert folder.steps(checkpoints.folder) == [500]


def test_other_surroundings_are_named_as_the_trainer_names_them(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with Checkpoints(tmp_path, model) as checkpoints:
        checkpoints.save(1)
    threads = torch.get_num_threads()
    before = snapshot([other])
    try:
        torch.set_num_threads(threads + 1)
        checkpoints = Checkpoints(tmp_path, other)
        words = f"not exact, because framework threads is {threads + 1} and was {threads}\n"
        with pytest.raises(ResumeError, match=f"{words}To go on all the same: force=True"):
            checkpoints.restore()
        assert same(snapshot([other]), before)
        with pytest.warns(RuntimeWarning, match=words.strip()):
            assert checkpoints.restore(force=True) == 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(other.weight, model.weight)


def test_damaged_checkpoints_are_named_and_the_newest_whole_one_is_taken(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with Checkpoints(tmp_path, model) as checkpoints:
        checkpoints.save(1)
        expected = model.weight.tolist()
        torch.nn.init.zeros_(model.weight)
        checkpoints.save(2)
    checkpoints = Checkpoints(tmp_path, other)
    (checkpoints.folder / "step-000002/model.safetensors").write_bytes(b"")
    with pytest.warns(
        RuntimeWarning, match="step-000002' is damaged: model.safetensors is 0 bytes"
    ):
        assert checkpoints.restore() == 1
    assert other.weight.tolist() == expected
    assert checkpoints.save(2)
    (checkpoints.folder / "step-000001/complete.json").unlink()
    (checkpoints.folder / "step-000002/state.json").unlink()
    with pytest.raises(
        ResumeError, match=r"no whole checkpoint; remove it to begin anew\n.*\n.*000001"
    ):
        checkpoints.restore()


def test_no_link_is_followed(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "there", nn.Linear(2, 2)) as checkpoints:
        checkpoints.save(3)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/checkpoints").symlink_to(checkpoints.folder)
    here = Checkpoints(tmp_path / "here", nn.Linear(2, 2))
    with pytest.raises(RunError, match="checkpoints' is a link, which is not followed"):
        here.restore()
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked/running.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="cannot be locked: it is a link"):
        Checkpoints(tmp_path / "locked", nn.Linear(2, 2))
    assert not (tmp_path / "elsewhere").exists()


def test_a_trainer_and_a_loop_do_not_take_each_other_s_checkpoints(tmp_path: Path) -> None:
    data = TextData("hello world " * 20, batch_size=4, num_steps=5, seed=0)
    model = LanguageModel(len(data.vocab), num_hiddens=4, seed=0)
    Trainer(1, checkpoint=tmp_path / "trainer").fit(model, data)
    with pytest.raises(ResumeError, match=r"are of unrolled's Trainer; go on with Trainer\.fit"):
        Checkpoints(tmp_path / "trainer", model).restore()
    Checkpoints(tmp_path / "loop", model).save(1)
    with pytest.raises(
        ResumeError, match=r"step 1 .* is of a loop of your own: unrolled\.Checkpoints"
    ):
        Trainer(2).fit(model, data, resume=tmp_path / "loop")


def test_two_processes_do_not_mix(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from unrolled import locking; P = Path({str(tmp_path)!r})"
    with Checkpoints(tmp_path, nn.Linear(2, 2)):
        done = in_a_process("-c", f"{code}; locking.hold(P)")
        assert f"is in use by process {os.getpid()} on host" in done.stderr
    assert not [*tmp_path.iterdir()]
    code = f"{code}; locking.hold(P); print(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RunError, match=f"is in use by process {other.pid} on host"):
            Checkpoints(tmp_path, nn.Linear(2, 2))
        other.kill()
    Checkpoints(tmp_path, nn.Linear(2, 2))


def test_in_one_process_the_later_object_takes_over(tmp_path: Path) -> None:
    earlier = Checkpoints(tmp_path, nn.Linear(2, 2))
    later = Checkpoints(tmp_path, nn.Linear(2, 2))
    with pytest.raises(RunError, match="or because you made others of this directory; use those"):
        earlier.save(1)
    earlier.close()
    assert later.save(1)
    assert locking.is_held(tmp_path)
    del later
    gc.collect()
    assert not locking.is_held(tmp_path)


def test_beside_a_watch_that_has_locked_the_directory(tmp_path: Path) -> None:
    from unrolled.watch import watch

    model = nn.RNN(2, 2)
    with watch(model, out=tmp_path / "run") as watched:
        with Checkpoints(watched.path, model) as checkpoints:
            checkpoints.save(1)
        assert locking.state(watched.path) == "running"
    assert folder.steps(checkpoints.folder) == [1]


def test_the_name_is_found_and_listed() -> None:
    assert "Checkpoints" in dir(unrolled)
    assert {"Checkpoints", "torch"} <= {*unrolled.__all__}
    assert unrolled.Checkpoints.__module__ == "unrolled.torch.checkpoints"
