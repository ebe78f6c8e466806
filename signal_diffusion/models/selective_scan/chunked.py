"""The selective scan in plain PyTorch, chunk by chunk.

The sequence is cut into chunks. A loop over the positions of a chunk runs for many chunks at once: first from a zero
state, to find what each chunk adds to its initial state; then, after chaining these, from the true initial states.
Nothing is divided by a decay, so nothing overflows. Only the states at the borders of chunks are stored for the
backward pass, which recomputes those between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["CHUNK", "chunked_backward", "chunked_forward", "type_of_state"]

CHUNK = 16
"""Largest number of positions in a chunk."""
CPU_BLOCK, CUDA_BLOCK = 2**17, 2**22
"""Elements of the state to process at once: as many chunks as fit, and at least one."""


class _Steps:
    """The inputs by position in a chunk T, chunk K and group M of an example, so that each step is contiguous.

    Tensors per channel are (T, K, M, 1, D / G), tensors per group (T, K, M, N, 1). The last chunk is padded with Δ = 0,
    which neither decays nor adds.
    """

    def __init__(self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, delta_bias: Tensor) -> None:
        state_type = type_of_state(u)
        batch, groups, num_states, length = b.shape
        self.chunks = -(-length // CHUNK)
        self.channel_shape = (1, u.shape[1] // groups)
        self.group_shape = (num_states, 1)
        self.u = u.to(state_type)
        self.raw_delta = delta.to(state_type) + delta_bias[:, None].to(state_type)
        self.delta = F.softplus(self.raw_delta)
        self.a = a.to(state_type).reshape(groups, -1, num_states).mT.repeat(batch, 1, 1)  # (M, N, D / G)
        self.dt = self.steps(self.delta, self.channel_shape)
        self.x = self.steps(self.delta * self.u, self.channel_shape)
        self.b = self.steps(b.to(state_type), self.group_shape)
        self.c = self.steps(c.to(state_type), self.group_shape)

    def steps(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """(B, …, L) to (T, K, M, *shape)."""
        positions = -(-x.shape[-1] // self.chunks)
        x = F.pad(x, (0, positions * self.chunks - x.shape[-1]))
        return x.reshape(-1, *shape, self.chunks, positions).permute(4, 3, 0, 1, 2).contiguous()

    @staticmethod
    def sequence(x: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `steps`, to a shape (B, …, L)."""
        return x.permute(2, 3, 4, 1, 0).reshape(*shape[:-1], -1)[..., : shape[-1]]

    def blocks(self) -> list[slice]:
        """Slices of chunks to process at once: enough to keep the device busy, few enough to stay in its caches."""
        most = max(1, (CUDA_BLOCK if self.a.is_cuda else CPU_BLOCK) // self.a.numel())
        size = -(-self.chunks // -(-self.chunks // most))
        return [slice(k, min(k + size, self.chunks)) for k in range(0, self.chunks, size)]


def chunked_forward(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The output in the type of u, and the state before each chunk and after the last one."""
    u, delta, a, b, c, d, delta_bias = inputs
    s = _Steps(u, delta, a, b, c, delta_bias)
    blocks = s.blocks()
    y = torch.empty_like(s.x)
    states = s.a.new_zeros(s.chunks + 1, *s.a.shape)  # the initial state of each chunk, and the last state
    buffers = s.a.new_empty(2, blocks[0].stop, *s.a.shape)
    for block in blocks:
        h, decay = buffers[:, : block.stop - block.start]
        dts, xs, bs, cs = (x[:, block].unbind() for x in (s.dt, s.x, s.b, s.c))
        if len(h) > 1:
            h.zero_()
            for dt, x, b_i in zip(dts, xs, bs, strict=True):
                h.mul_(torch.mul(dt, s.a, out=decay).exp_()).addcmul_(b_i, x)
            torch.mul(s.dt[:, block].sum(0), s.a, out=decay).exp_()  # the decay over whole chunks
            for k in range(len(h)):
                torch.addcmul(h[k], decay[k], states[block.start + k], out=states[block.start + k + 1])
        h.copy_(states[block])
        for dt, x, b_i, c_i, y_i in zip(dts, xs, bs, cs, y[:, block].unbind(), strict=True):
            h.mul_(torch.mul(dt, s.a, out=decay).exp_()).addcmul_(b_i, x)
            torch.sum(torch.mul(h, c_i, out=decay), -2, keepdim=True, out=y_i)
        states[block.stop] = h[-1]
    y = s.sequence(y, u.shape).addcmul(d[:, None].to(y.dtype), s.u)
    return y.to(u.dtype).contiguous(), states


def chunked_backward(grad: Tensor, *inputs_and_states: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the seven inputs, from that of the output."""
    u, delta, a, b, c, d, delta_bias, states = inputs_and_states
    s = _Steps(u, delta, a, b, c, delta_bias)
    grad = grad.to(s.u.dtype)
    dy = s.steps(grad, s.channel_shape)
    db, dc, ddt, dx = (torch.empty_like(x) for x in (s.b, s.c, s.dt, s.x))
    blocks = s.blocks()
    decays, carries = s.a.new_empty(2, len(s.dt), blocks[0].stop, *s.a.shape)  # A_l; A_l·h_{l−1}, overwritten by q_l
    scratch = s.a.new_empty(2, blocks[0].stop, *s.a.shape)
    final, da = s.a.new_zeros(2, blocks[0].stop, *s.a.shape)  # gradients of each chunk's final state, and of a
    for block in reversed(blocks):
        n = block.stop - block.start
        decay, carry, temporary = decays[:, :n].unbind(), carries[:, :n].unbind(), scratch[0, :n]
        final[n - 1] = final[0]  # from the block after this one
        g = final[:n]
        dts, xs, bs, cs, dys = (x[:, block].unbind() for x in (s.dt, s.x, s.b, s.c, dy))
        h = states[block]
        for i in range(len(dts)):
            torch.mul(torch.mul(dts[i], s.a, out=decay[i]).exp_(), h, out=carry[i])
            h = torch.addcmul(carry[i], bs[i], xs[i], out=temporary)
        if n > 1:
            _chain_gradients(
                g, decay, cs, dys, torch.mul(s.dt[:, block].sum(0), s.a, out=scratch[1, :n]).exp_(), temporary
            )
        dbs, dcs, ddts, dxs = (x[:, block].unbind() for x in (db, dc, ddt, dx))
        for i in reversed(range(len(dts))):
            g.addcmul_(cs[i], dys[i])
            torch.sum(torch.mul(g, xs[i], out=temporary), -1, keepdim=True, out=dbs[i])
            torch.sum(torch.mul(g, bs[i], out=temporary), -2, keepdim=True, out=dxs[i])
            torch.sum(torch.mul(carry[i], dys[i], out=temporary), -1, keepdim=True, out=dcs[i])
            q = carry[i].mul_(g)
            da[:n].addcmul_(q, dts[i])
            torch.sum(torch.mul(q, s.a, out=temporary), -2, keepdim=True, out=ddts[i])
            g.mul_(decay[i])
    dc.addcmul_(s.b, (s.x * dy).sum(-1, keepdim=True))  # from b_l·x_l, the other term of h_l
    dx = s.sequence(dx, u.shape)
    ddelta = (s.sequence(ddt, u.shape) + s.u * dx) * s.raw_delta.sigmoid()
    return (
        (s.delta * dx).addcmul_(d[:, None].to(dx.dtype), grad),
        ddelta,
        da.sum(0).unflatten(0, (len(u), -1)).sum(0).mT.reshape(a.shape),
        s.sequence(db, b.shape),
        s.sequence(dc, c.shape),
        (s.u * grad).sum((0, 2)),
        ddelta.sum((0, 2)),
    )


def _chain_gradients(
    final: Tensor, decay: Sequence[Tensor], c: Sequence[Tensor], dy: Sequence[Tensor], whole: Tensor, local: Tensor
) -> None:
    """Fill in `final`, the gradients of the chunks' final states, from that of the last chunk."""
    local.zero_()
    for decay_i, c_i, dy_i in zip(reversed(decay), reversed(c), reversed(dy), strict=True):
        local.addcmul_(c_i, dy_i).mul_(decay_i)
    for k in reversed(range(1, len(final))):
        torch.addcmul(local[k], whole[k], final[k], out=final[k - 1])


def type_of_state(u: Tensor) -> torch.dtype:
    """float32, or float64 if u is."""
    return torch.promote_types(u.dtype, torch.float32)
