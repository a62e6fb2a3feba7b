"""Training small convolutional networks side by side: this project, plain Linen with optax, and PyTorch in eager mode.

All train the same layers with Adam on the same random images of 28 × 28 × 1. Every side is a process of its own; all
are held to the same cores, have compiled before the first turn, and take turns, so that a busy machine slows all of
them alike. PyTorch runs with its default order of memory and with `channels_last`; the ratios are to the better one.
Images a second of wall time say how long one waits, images a second of CPU time what is paid. `make bench` writes the
tables to benchmarks/convnets.md; it needs PyTorch (`pip install -e .[bench]`).
"""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from race import Trainer, race, serve, tabulate

SIDE, CLASSES, NUM_IMAGES = 28, 10, 4096
PEAK_LR = 1e-3
SEED = 0

Sized = tuple[int, Trainer]  # parameters, and what trains some more steps


class Net(NamedTuple):
    """A network: what it is called, its width, its batch size and the steps of one turn."""

    kind: str
    title: str
    width: int
    batch: int
    steps: int


NETS = {
    "lenet5": Net("lenet5", "LeNet-5, all connections", 84, 64, 60),
    "lenet5_128": Net("lenet5", "LeNet-5, all connections", 84, 128, 30),
    "vgg_64": Net("vgg", "VGG-11's stages, one convolution each, 64 channels at the end", 64, 64, 40),
    "vgg_128": Net("vgg", "VGG-11's stages, one convolution each, 128 channels at the end", 128, 128, 10),
    "resnet20": Net("resnet", "ResNet-20 of CIFAR", 64, 64, 4),
}

VGG_CHANNELS = (64, 128, 256, 512, 512)  # times width / 512; a pool follows each as long as two places a side are left


def random_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns [N, 784] float32 and [N] int32."""
    generator = np.random.default_rng(SEED)
    images = generator.normal(size=(NUM_IMAGES, SIDE * SIDE)).astype(np.float32)
    return images, generator.integers(0, CLASSES, NUM_IMAGES).astype(np.int32)


def random_batches(net: Net) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches for the loops that take one at a time."""
    (images, labels), generator = random_images(), np.random.default_rng(SEED)
    while True:
        chosen = generator.integers(0, NUM_IMAGES, net.batch)
        yield images[chosen], labels[chosen]


def vgg_stages(net: Net) -> list[tuple[int, bool]]:
    """Returns (channels, whether a pool follows) of each stage."""
    stages, side = [], SIDE
    for channels in VGG_CHANNELS:
        stages.append((max(1, round(channels * net.width / 512)), side // 2 >= 2))
        side = side // 2 if side // 2 >= 2 else side
    return stages


# --- the sides ------------------------------------------------------------------------------------------------------


def ours(net: Net) -> Sized:
    """Returns this project's trainer: the data on the device, many steps a call."""
    import jax
    import jax.numpy as jnp

    from scaling.data.feeding.placement import DeviceData, Standard
    from scaling.learning.step import make_hyper
    from scaling.models.registry import make_shape
    from scaling.specs.models import ConvNetSpec, NetworkSpec, ResNetSpec
    from scaling.specs.schedules import ConstantSchedule
    from scaling.specs.task import TaskShape
    from scaling.specs.training import AdamWSpec, TrainingSpec
    from scaling.training.program import get_program

    specs: dict[str, NetworkSpec] = {
        "lenet5": ConvNetSpec(form="lenet5_dense", width=net.width, activation="tanh"),
        "vgg": ConvNetSpec(form="vgg", width=net.width),
        "resnet": ResNetSpec(form="cifar", width=net.width, depth=3),
    }
    task = TaskShape(SIDE * SIDE, None, CLASSES, (SIDE, SIDE, 1))
    training = TrainingSpec(
        optimizer=AdamWSpec(peak_lr=PEAK_LR, weight_decay=0.0, b1=0.9, b2=0.999),
        schedule=ConstantSchedule(),
        batch_size=net.batch,
        num_steps=1_000_000,
    )
    program = get_program(make_shape(specs[net.kind], task), training)
    images, labels = random_images()
    features = images.shape[1]
    standard = Standard(jnp.zeros(features), jnp.ones(features), jnp.float32(0.0), jnp.float32(1.0))
    data = DeviceData(jnp.asarray(images), jnp.asarray(labels), jnp.arange(NUM_IMAGES), standard)
    hyper = make_hyper(training, NUM_IMAGES, SEED)
    state = program.init(jnp.uint32(SEED))

    def train(num_steps: int) -> None:
        nonlocal state
        state, losses = program.run(state, hyper, data, jnp.int32(num_steps))
        jax.block_until_ready(losses)

    return sum(array.size for array in jax.tree.leaves(state.variables["params"])), train


def linen(net: Net) -> Sized:
    """Returns the loop of Flax's tutorials: Linen's layers, optax, a donated state, one jitted step a batch."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    class Block(nn.Module):
        width: int
        stride: int

        @nn.compact
        def __call__(self, x: Any) -> Any:
            y = nn.Conv(self.width, (3, 3), self.stride, 1, use_bias=False)(x)
            y = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9)(y))
            y = nn.Conv(self.width, (3, 3), 1, 1, use_bias=False)(y)
            y = nn.BatchNorm(use_running_average=False, momentum=0.9)(y)
            extra = self.width - x.shape[-1]
            sides = ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2))
            return nn.relu(y + jnp.pad(x[:, :: self.stride, :: self.stride], sides))

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = x.reshape(-1, SIDE, SIDE, 1)
            if net.kind == "lenet5":
                x = nn.avg_pool(nn.tanh(nn.Conv(6, (5, 5), padding=2)(x)), (2, 2), (2, 2))
                x = nn.avg_pool(nn.tanh(nn.Conv(16, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
                x = nn.tanh(nn.Conv(120, (5, 5), padding="VALID")(x))
                x = nn.tanh(nn.Dense(net.width)(x.reshape(len(x), -1)))
            elif net.kind == "vgg":
                for channels, has_pool in vgg_stages(net):
                    x = nn.relu(nn.Conv(channels, (3, 3), padding=1)(x))
                    x = nn.max_pool(x, (2, 2), (2, 2)) if has_pool else x
                x = x.mean((1, 2))
            else:
                x = nn.Conv(net.width // 4, (3, 3), padding=1, use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9)(x))
                for number in range(9):
                    stride = 2 if number in (3, 6) else 1
                    x = Block(net.width // (4, 2, 1)[number // 3], stride)(x)
                x = x.mean((1, 2))
            return nn.Dense(CLASSES)(x)

    model, batches, optimizer = Network(), random_batches(net), optax.adam(PEAK_LR)
    variables = model.init(jax.random.key(SEED), next(batches)[0])
    params, statistics_ = variables["params"], variables.get("batch_stats", {})
    state = params, statistics_, optimizer.init(params)

    def step(state: Any, images: Any, labels: Any) -> Any:
        params, kept, moments = state

        def mean_loss(params: Any) -> Any:
            variables = {"params": params, "batch_stats": kept}
            logits, changed = model.apply(variables, images, mutable=["batch_stats"])
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, changed.get("batch_stats", {})

        (loss, kept), gradients = jax.value_and_grad(mean_loss, has_aux=True)(params)
        update, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, update), kept, moments), loss

    compiled = jax.jit(step, donate_argnums=0)

    def train(num_steps: int) -> None:
        nonlocal state
        for _ in range(num_steps):
            state, loss = compiled(state, *next(batches))
        loss.block_until_ready()

    return sum(array.size for array in jax.tree.leaves(params)), train


def _torch_loop(net: Net, *, is_channels_last: bool) -> Sized:
    """Returns PyTorch's usual loop, eager."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(SEED)
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    class Block(nn.Module):
        def __init__(self, channels: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv_1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
            self.conv_2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm_1, self.norm_2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            self.extra, self.stride = width - channels, stride

        def forward(self, x: Any) -> Any:
            y = self.norm_2(self.conv_2(functional.relu(self.norm_1(self.conv_1(x)))))
            if self.extra:
                sides = (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2)
                x = functional.pad(x[:, :, :: self.stride, :: self.stride], sides)
            return functional.relu(x + y)

    layers: list[Any] = []
    if net.kind == "lenet5":
        layers += [nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)]
        layers += [nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(16, 120, 5), nn.Tanh()]
        layers += [nn.Flatten(), nn.Linear(120, net.width), nn.Tanh(), nn.Linear(net.width, CLASSES)]
    elif net.kind == "vgg":
        before = 1
        for channels, has_pool in vgg_stages(net):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if has_pool else [])]
            before = channels
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    else:
        widths = (net.width // 4, net.width // 2, net.width)
        before = widths[0]
        layers += [nn.Conv2d(1, before, 3, padding=1, bias=False), nn.BatchNorm2d(before), nn.ReLU()]
        for number in range(9):
            width = widths[number // 3]
            layers.append(Block(before, width, 2 if number in (3, 6) else 1))
            before = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    order = torch.channels_last if is_channels_last else torch.contiguous_format
    model, batches = nn.Sequential(*layers).to(memory_format=order), random_batches(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_LR)

    def train(num_steps: int) -> None:
        for _ in range(num_steps):
            images, labels = next(batches)
            x = torch.from_numpy(images).view(-1, 1, SIDE, SIDE).contiguous(memory_format=order)
            loss = functional.cross_entropy(model(x), torch.from_numpy(labels).long())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return sum(parameter.numel() for parameter in model.parameters()), train


SIDES: dict[str, tuple[str, Callable[[Net], Sized]]] = {
    "ours": ("this project", ours),
    "linen": ("Flax Linen and optax", linen),
    "torch": ("PyTorch, eager", lambda net: _torch_loop(net, is_channels_last=False)),
    "channels_last": ("PyTorch, eager, `channels_last`", lambda net: _torch_loop(net, is_channels_last=True)),
}


def main() -> None:
    """Prints the tables; `--out` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--net", choices=NETS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        num_params, train = SIDES[options.serve][1](NETS[options.net])
        serve(train, str(num_params))
        return
    available = sorted(os.sched_getaffinity(0))
    lines = []
    for name in options.nets:
        net, results = NETS[name], {}
        commands = {side: [__file__, "--serve", side, "--net", name] for side in options.sides}
        for count in options.cores:
            cores = available[:count]
            rates, sizes = race(commands, cores, repeats=options.repeats, steps=net.steps, units=net.batch)
            if len(set(sizes.values())) > 1:
                raise RuntimeError(f"{name}: the sides differ in parameters: {sizes}")
            results[count] = rates
        titles = {side: title for side, (title, _) in SIDES.items()}
        table = [f"### {net.title}; batch {net.batch}", ""]
        table += tabulate(titles, results, ["torch", "channels_last"], "images")
        print("\n".join(table), flush=True)
        lines += table
    if options.out:
        what = f"{platform.machine()}, {len(available)} cores; medians of {options.repeats} turns."
        head = ["# Convolutional networks", "", (__doc__ or "").split("\n\n")[1].replace("\n", " "), "", what, ""]
        options.out.write_text("\n".join([*head, *lines]))


if __name__ == "__main__":
    main()
