"""Training small transformers side by side: this project, plain Linen, and loops like those of NanoDO and nanoGPT.

All train one architecture, that of GPT-2 (pre-norm blocks, learnt positions, tied readout, GELU with tanh, biases, no
dropout), with AdamW on the same random bytes, 16 sequences of 256 a batch. Every side is a process of its own; all are
held to the same cores, have compiled before the first turn, and take turns, so that a busy machine slows all of them
alike. Tokens a second of wall time say how long one waits, tokens a second of CPU time what is paid. `make bench`
writes the tables to benchmarks/transformers.md; it needs PyTorch (`pip install -e .[bench]`).
"""

import argparse
import importlib.util
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from race import Trainer, race, serve, tabulate

BATCH, LENGTH, VOCAB = 16, 256, 256  # B, T, V
PEAK_LR, WEIGHT_DECAY, BETAS = 1e-3, 0.1, (0.9, 0.95)
SEED = 0


class Size(NamedTuple):
    """A network: D, L and H, and the steps of one turn."""

    width: int
    depth: int
    heads: int
    steps: int


SIZES = {"0.1 M": Size(64, 2, 2, 60), "1 M": Size(128, 5, 4, 16), "3 M": Size(192, 6, 6, 8)}


def random_bytes() -> np.ndarray:
    """Returns [N, T + 1] sequences."""
    return np.random.default_rng(SEED).integers(0, VOCAB, (4096, LENGTH + 1), dtype=np.uint8)


def random_batches() -> Iterator[np.ndarray]:
    """Yields [B, T + 1] int32 tokens for the loops that take a batch at a time."""
    rows, generator = random_bytes(), np.random.default_rng(SEED)
    while True:
        yield rows[generator.integers(0, len(rows), BATCH)].astype(np.int32)


# --- the sides ------------------------------------------------------------------------------------------------------


def ours(size: Size) -> Trainer:
    """Returns this project's trainer: the data on the device, many steps a call."""
    import jax
    import jax.numpy as jnp

    from scaling.data.feeding.placement import DeviceData, Standard
    from scaling.learning.step import make_hyper
    from scaling.models.registry import make_shape
    from scaling.specs.models import TransformerSpec
    from scaling.specs.schedules import ConstantSchedule
    from scaling.specs.task import token_task
    from scaling.specs.training import AdamWSpec, TrainingSpec
    from scaling.training.program import get_program

    spec = TransformerSpec(
        width=size.width,
        depth=size.depth,
        aspect="fixed_depth",
        head_size=size.width // size.heads,
        positions="learned",
        tied=True,
    )
    b1, b2 = BETAS
    training = TrainingSpec(
        optimizer=AdamWSpec(peak_lr=PEAK_LR, weight_decay=WEIGHT_DECAY, b1=b1, b2=b2),
        schedule=ConstantSchedule(),
        batch_size=BATCH,
        num_steps=1_000_000,
    )
    program = get_program(make_shape(spec, token_task(VOCAB, LENGTH)), training)
    rows = random_bytes()
    nothing, none, one = jnp.zeros(0), jnp.float32(0.0), jnp.float32(1.0)
    labels, order = jnp.zeros(len(rows), jnp.int8), jnp.arange(len(rows))
    data = DeviceData(jnp.asarray(rows), labels, order, Standard(nothing, nothing, none, one))
    hyper = make_hyper(training, len(rows), SEED)
    state = program.init(jnp.uint32(SEED))

    def train(num_steps: int) -> None:
        nonlocal state
        state, losses = program.run(state, hyper, data, jnp.int32(num_steps))
        jax.block_until_ready(losses)

    return train


def _linen_loop(size: Size, attention: Any, *, donates: bool) -> Trainer:
    """Returns a loop of one jitted step a batch over a Linen decoder whose blocks attend with `attention(x)`."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn
    from flax.training.train_state import TrainState

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, tokens: Any) -> Any:
            embed = nn.Embed(VOCAB, size.width, embedding_init=nn.initializers.normal(0.02))
            places = nn.Embed(LENGTH, size.width, embedding_init=nn.initializers.normal(0.02))
            x = embed(tokens) + places(jnp.arange(tokens.shape[1])[None])
            for _ in range(size.depth):
                x = x + attention()(nn.LayerNorm(epsilon=1e-5)(x))
                hidden = nn.gelu(nn.Dense(4 * size.width)(nn.LayerNorm(epsilon=1e-5)(x)))
                x = x + nn.Dense(size.width)(hidden)
            return embed.attend(nn.LayerNorm(epsilon=1e-5)(x))

    model, batches = Decoder(), random_batches()
    params = model.init(jax.random.key(SEED), next(batches)[:, :-1])["params"]
    decay = optax.adamw(PEAK_LR, *BETAS, weight_decay=WEIGHT_DECAY, mask=jax.tree.map(lambda p: p.ndim > 1, params))
    state = TrainState.create(apply_fn=model.apply, params=params, tx=decay)

    def step(state: Any, tokens: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = state.apply_fn({"params": params}, tokens[:, :-1])
            return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    compiled = jax.jit(step, donate_argnums=0 if donates else ())

    def train(num_steps: int) -> None:
        nonlocal state
        for _ in range(num_steps):
            state, value = compiled(state, next(batches))
        value.block_until_ready()

    return train


def linen(size: Size) -> Trainer:
    """Returns the loop of Flax's tutorials: Linen's own attention, a train state, a jitted step."""
    import jax.numpy as jnp
    from flax import linen as nn

    class Attention(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            mask = nn.make_causal_mask(jnp.ones(x.shape[:2]))
            return nn.MultiHeadDotProductAttention(num_heads=size.heads, deterministic=True)(x, mask=mask)

    return _linen_loop(size, Attention, donates=False)


def nanodo(size: Size) -> Trainer:
    """Returns a loop like NanoDO's: attention by einsum, a donated state, no wait for the loss between steps."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    class Attention(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            shape = (size.heads, size.width // size.heads)
            query, key, value = (nn.DenseGeneral(shape, name=name)(x) for name in ("query", "key", "value"))
            scores = jnp.einsum("bthk,bshk->bhts", query / shape[1] ** 0.5, key)
            seen = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1]), bool))
            weights = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min))
            mixed = jnp.einsum("bhts,bshk->bthk", weights, value)
            return nn.DenseGeneral(size.width, axis=(-2, -1), name="out")(mixed)

    return _linen_loop(size, Attention, donates=True)


def nanogpt(size: Size) -> Trainer:
    """Returns a loop like nanoGPT's: PyTorch, eager, its fused causal attention, AdamW as it comes on a CPU."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(SEED)
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
            self.qkv, self.out = nn.Linear(size.width, 3 * size.width), nn.Linear(size.width, size.width)
            self.up, self.down = nn.Linear(size.width, 4 * size.width), nn.Linear(4 * size.width, size.width)

        def forward(self, x: Any) -> Any:
            split = self.qkv(self.norm_1(x)).split(size.width, dim=2)
            heads = (y.view(BATCH, -1, size.heads, size.width // size.heads).transpose(1, 2) for y in split)
            mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).contiguous().view(x.shape))
            return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.places = nn.Embedding(VOCAB, size.width), nn.Embedding(LENGTH, size.width)
            self.blocks = nn.ModuleList(Block() for _ in range(size.depth))
            self.norm = nn.LayerNorm(size.width)
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, tokens: Any, targets: Any) -> Any:
            x = self.embed(tokens) + self.places(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.embed.weight)
            return functional.cross_entropy(logits.view(-1, VOCAB), targets.reshape(-1))

    model = Decoder()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LR, betas=BETAS)
    batches = random_batches()

    def train(num_steps: int) -> None:
        for _ in range(num_steps):
            tokens = torch.from_numpy(next(batches).astype(np.int64))
            loss = model(tokens[:, :-1], tokens[:, 1:])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return train


SIDES: dict[str, tuple[str, Callable[[Size], Trainer]]] = {
    "ours": ("this project", ours),
    "linen": ("Flax Linen and optax", linen),
    "nanodo": ("loop like NanoDO's", nanodo),
    "nanogpt": ("loop like nanoGPT's, PyTorch", nanogpt),
}


def main() -> None:
    """Prints the tables; `--out` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2], help="how many")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(SIDES[options.serve][1](SIZES[options.size]), "ready")
    sides = [side for side in options.sides if side != "nanogpt" or importlib.util.find_spec("torch")]
    cores = sorted(os.sched_getaffinity(0))
    lines = []
    for name in options.sizes:
        size = SIZES[name]
        commands = {side: [__file__, "--serve", side, "--size", name] for side in sides}
        results = {
            count: race(commands, cores[:count], repeats=options.repeats, steps=size.steps, units=BATCH * LENGTH)[0]
            for count in options.cores
        }
        titles = {side: title for side, (title, _) in SIDES.items()}
        table = [f"### {name} parameters: width {size.width}, {size.depth} blocks, {size.heads} heads", ""]
        table += tabulate(titles, results, ["nanogpt"], "tokens")
        print("\n".join(table), flush=True)
        lines += table
    if options.out:
        what = f"{platform.machine()}; medians of {options.repeats} turns; × is to the loop like nanoGPT's."
        head = ["# Small transformers", "", " ".join((__doc__ or "").split("\n\n")[1].split()), "", what, ""]
        options.out.write_text("\n".join([*head, *lines]))
    return None


if __name__ == "__main__":
    main()
