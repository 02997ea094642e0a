"""Training on several processes that torchrun started; with one process nothing happens here.

from helpers import processes
processes.world(), processes.rank()       # 1 and 0 without torchrun
processes.gather(vectors)                 # the rows of all processes, with gradients
"""

import torch
import torch.distributed as dist


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world() > 1 else 0


class _Gather(torch.autograd.Function):
    """Everyone's rows, in the order of the processes; backward, everyone's gradients for mine."""

    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, (world * n, dim), in the order of the processes, with gradients.

    rows: this process's, (n, dim), as many on each.
    """
    return _Gather.apply(rows) if world() > 1 else rows


def add_up_gradients(optimizers: list[torch.optim.Optimizer]) -> None:
    """Give every process the sum of all processes' gradients, of each weight that is trained."""
    if world() == 1:
        return
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad.is_sparse:
                    dense = weight.grad.to_dense()
                    dist.all_reduce(dense)
                    weight.grad = dense.to_sparse(1)
                else:
                    dist.all_reduce(weight.grad)


def mean(loss: torch.Tensor) -> float:
    """The mean of the processes' losses."""
    if world() > 1:
        dist.all_reduce(loss)
    return loss.item() / world()
