"""``data_parallel()``: train by several processes, whose gradients PyTorch's DDP reduces."""

import atexit
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from unrolled.backends import torch as backend
from unrolled.backends.rows import MANY
from unrolled.backends.state.torch import drawing_alone
from unrolled.errors import SettingError
from unrolled.processes.meeting import meet
from unrolled.processes.place import place_from_environment
from unrolled.torch.sparse_gradients import rows_suffice
from unrolled.training import data_parallel as shared
from unrolled.training.surroundings import versions
from unrolled.training.tracing import TAP, Traced


def data_parallel(devices: int = 1, about: Mapping[str, Any] = {}) -> shared.DataParallel:
    """Join the other processes of a training, if the environment says that there are some.

    ``torchrun`` and ``unrolled run --processes`` set the environment. Without them the result
    stands for this process alone. Gradients are reduced by gloo on CPUs and by NCCL on GPUs, of
    which each process takes the one with its number on the machine. (It never ran on a GPU.)

    Args:
        devices: of this process; PyTorch's processes have one each.
        about: what must be the same in all processes beside the versions, in nested dicts.

    Returns:
        What ``Trainer(data_parallel=...)`` takes.

    Raises:
        SettingError: several devices, a process group that is there already, or nonsense in the
            environment.
        RunError: a process did not come, or is about something else; a port is taken.

    Example:
        >>> from unrolled import torch
        >>> parallel = torch.data_parallel()
        >>> trainer = torch.Trainer(max_epochs=1, data_parallel=parallel)
        >>> parallel.rank, parallel.processes
        (0, 1)

    Reference: S. Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel
    Training, VLDB 2020.
    """
    shared.check_devices(devices)
    if devices > 1:
        raise SettingError(
            f"devices is {devices}, and in PyTorch each process has one device: start {devices} "
            f"processes, with `unrolled run ... --processes {devices}` or torchrun"
        )
    place = place_from_environment()
    if place is None:
        return shared.DataParallel()
    if distributed.is_initialized():
        raise SettingError(
            "the process group is there already; leave init_process_group to data_parallel()"
        )
    meeting = meet(place, {"versions": versions(backend), **about})
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        place.host, meeting.engine_port, place.size, place.rank == 0, wait_for_workers=False
    )
    kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(kind, store=store, rank=place.rank, world_size=place.size)
    atexit.register(meeting.leave)
    return DataParallel(meeting, parts=place.size)


class DataParallel(shared.DataParallel):
    """Several processes with a part of each minibatch, and DDP between them."""

    seed: int  # from `begin` on

    def same_model(self, model: Any) -> Any:
        parameters = backend.parameters(model)
        self.check_same({"parameters": {n: list(p.shape) for n, p in parameters.items()}})
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise shared.batch_statistics(module)
        for tensor in (*parameters.values(), *model.buffers()):
            distributed.broadcast(tensor.detach(), 0)
        return model

    def begin(self, trainer: Any) -> None:
        super().begin(trainer)
        suffices, parameters = rows_suffice(trainer), trainer.parameters
        self.tables = {
            name for name, p in parameters.items() if suffices and p.dim() > 1 and len(p) >= MANY
        }
        self.reducing = _reducing([p for name, p in parameters.items() if name not in self.tables])
        # loaders draw the same in all processes then; what a step drops is each one's own
        self.seed, *_ = self.everyone(backend.fresh_seed())
        backend.seed(self.seed)

    def divided(self, batch: Any) -> Any:
        size = len(batch[-1]) // self.parts
        first = self.rank * size
        return tuple(part[first : first + size] for part in batch)

    def num_targets(self, batch: Any) -> int:
        return super().num_targets(batch) * (self.parts if self.is_divided else 1)

    def whole_state(self, model: Any, state: Any) -> Any:
        if state is None or not self.is_divided:
            return state
        return shared.each_array(self.gather, state, shared.batch_axes(model))

    def part_of_state(self, model: Any, state: Any) -> Any:
        def own(x: torch.Tensor, axis: int) -> torch.Tensor:
            return x.chunk(self.parts, axis)[self.rank]

        return None if state is None else shared.each_array(own, state, shared.batch_axes(model))

    def differentiable(self, trainer: Any, objective: Callable[..., Any]) -> Callable[..., Any]:
        """See `unrolled.training.data_parallel`; DDP reduces the gradients in the backward pass."""

        def of_part(*arguments: Any) -> tuple[Any, Any]:
            loss, auxiliary = objective(*arguments)
            if self.is_divided and shared.is_sum(trainer.model):
                loss = loss * self.parts  # the mean over the processes is the sum then
            return loss, auxiliary

        return super().differentiable(trainer, lambda *given: self.reducing(of_part, *given))

    def sharing(self, trainer: Any, differentiate: Callable[..., Any]) -> Callable[..., Any]:
        def together(*arguments: Any) -> Any:
            with drawing_alone(self.seed, trainer.train_batch_idx, self.rank):
                (loss, auxiliary), gradients = differentiate(*arguments)
            if isinstance(auxiliary, Traced) and self.is_divided:
                auxiliary = self._whole_trace(auxiliary)
            return (self.mean(loss), auxiliary), {
                name: self._reduced(name, gradient) for name, gradient in gradients.items()
            }

        return together

    def _whole_trace(self, traced: Traced) -> Traced:
        seen = {
            name: (self.gather(first, 0), self.gather(after, 1))
            for name, (first, after) in traced.seen.items()
        }
        return traced._replace(seen=seen)

    def _reduced(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of all processes; DDP has reduced all but those of tables and taps."""
        if name in self.tables:
            return self._rows(gradient)
        if name.startswith(TAP) and self.is_divided:
            return self.gather(gradient, 1) / self.parts  # of the mean of all losses
        return gradient

    def _rows(self, gradient: torch.Tensor) -> torch.Tensor:
        """The mean over the processes of gradients, each of which holds some rows."""
        if not gradient.is_sparse:
            return self.mean(gradient)
        ids, rows = gradient.indices()[0], gradient.values()
        counts = self.gather(ids.new_tensor([len(ids)]), 0).tolist()
        most = max(counts)
        padding = most - len(ids)
        every_id = self.gather(nn.functional.pad(ids, (0, padding)), 0)
        every_row = self.gather(nn.functional.pad(rows, (0, 0, 0, padding)), 0)
        no_padding = torch.arange(most) < torch.tensor(counts)[:, None]  # (parts, most)
        chosen = no_padding.reshape(-1).to(ids.device)
        together = torch.sparse_coo_tensor(
            every_id[chosen][None],
            every_row[chosen] / self.parts,
            gradient.shape,
            check_invariants=False,
        )
        return together.coalesce()

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean over the processes of arrays of one shape."""
        total = x.detach().clone()
        distributed.all_reduce(total)
        return total / self.parts

    def gather(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """The arrays of all processes one after the other, in the order of their numbers."""
        x = x.detach().contiguous()
        parts = [torch.empty_like(x) for _ in range(self.parts)]
        distributed.all_gather(parts, x)
        return torch.cat(parts, axis)


def _reducing(parameters: list[torch.Tensor]) -> Callable[..., tuple[Any, Any]]:
    """``(objective, *arguments) -> (loss, auxiliary)``, whose backward pass reduces gradients."""
    if not any(p.requires_grad for p in parameters):
        return lambda objective, *arguments: objective(*arguments)
    module = _Objective(parameters)
    # without the option DDP would wait forever for a parameter that a loss does without. It would
    # also put the gradients together in another order after the first step, so that a resumed
    # training would round otherwise
    wrapped = DistributedDataParallel(module, find_unused_parameters=True, init_sync=False)
    return lambda *given: (wrapped(*given), module.auxiliary)


class _Objective(nn.Module):
    """The loss as a module, which DDP asks for; what comes along must not go through DDP."""

    def __init__(self, parameters: list[Any]) -> None:
        super().__init__()
        self.shared = nn.ParameterList(parameters)
        self.auxiliary: Any = None

    def forward(self, objective: Callable[..., tuple[Any, Any]], *arguments: Any) -> torch.Tensor:
        loss: torch.Tensor
        loss, self.auxiliary = objective(*arguments)
        return loss
