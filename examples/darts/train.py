"""DARTS on scikit-learn's digits: search a cell by gradient, extract it, train it anew.

The weights learn from one half of the training images and the architecture from the other; then the network of the
strongest edges is built and trained from scratch on both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import search_spaces
from mutators import DartsMutator, extract
from mutators.costs import count_macs, count_params

Images = tuple[Tensor, Tensor]
"""Images (N, 1, 8, 8) and labels (N,)."""


def digits(seed: int) -> tuple[Images, Images]:
    """1400 images to train with and 397 to test with."""
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = order[:1400], order[1400:]
    return (images[train], labels[train]), (images[test], labels[test])


def loss_on(model: nn.Module, data: Images, at: Tensor) -> Callable[[], Tensor]:
    return lambda: nn.functional.cross_entropy(model(data[0][at]), data[1][at])


def search(model: nn.Module, data: Images, epochs: int, batch: int, second_order: bool, seed: int) -> DartsMutator:
    mutator = DartsMutator(model, seed=seed)
    weights = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4)
    arch = torch.optim.Adam(mutator.parameters(), lr=6e-3, betas=(0.5, 0.999), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(weights, epochs, eta_min=1e-3)
    generator = torch.Generator().manual_seed(seed)
    half = len(data[1]) // 2
    for epoch in range(epochs):
        for_weights = torch.randperm(half, generator=generator).split(batch)
        for_arch = (half + torch.randperm(half, generator=generator)).split(batch)
        for at, other in zip(for_weights, for_arch, strict=True):
            train_loss, valid_loss = loss_on(model, data, at), loss_on(model, data, other)
            if second_order:
                valid = mutator.second_order_backward(train_loss, valid_loss, weights)
            else:
                valid = mutator.first_order_backward(valid_loss)
            arch.step()
            mutator.reset()  # the mix of the new architecture
            weights.zero_grad()
            loss = train_loss()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            weights.step()
        schedule.step()
        print(
            f"epoch {epoch + 1}/{epochs}, loss {loss.item():.3f}, on validation images {valid.item():.3f}", flush=True
        )
    return mutator


def retrain(network: nn.Module, data: Images, epochs: int, batch: int, seed: int) -> None:
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    steps = epochs * -(-len(data[1]) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for at in torch.randperm(len(data[1]), generator=generator).split(batch):
            optimizer.zero_grad()
            loss_on(network, data, at)().backward()
            optimizer.step()
            schedule.step()


def show(choices: dict[str, dict[str, object]]) -> None:
    """Print each node's edges, as ``n3 = sep_conv_3x3(n0) + skip_connect(n2)``."""
    for key, choice in choices.items():
        if key.endswith("_switch"):
            names = choice["_value"]
            assert isinstance(names, list)
            edges = [f"{choices[name]['_value']}(n{name.rpartition('_p')[2]})" for name in names]
            print(f"  {key.removesuffix('_switch')} = {' + '.join(edges)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="of the search")
    parser.add_argument("--retrain-epochs", type=int, default=20)
    parser.add_argument("--second-order", action="store_true", help="look one step ahead; takes about twice as long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    options = parser.parse_args()
    channels, nodes = (4, 2) if options.smoke else (8, 3)
    epochs, retrain_epochs, batch = (2, 8, 140) if options.smoke else (options.epochs, options.retrain_epochs, 50)

    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # layers this small only wait for each other's threads
    train, test = digits(options.seed)
    config = {"in_channels": 1, "num_classes": 10, "channels": channels, "layers": 3, "nodes": nodes}
    model = search_spaces.build("darts", **config, affine=False)
    mutator = search(model, train, epochs, batch, options.second_order or options.smoke, options.seed)
    choices = mutator.export_choices()
    print("found:")
    show(choices)

    network = extract(search_spaces.build("darts", **config), choices)
    macs, params = count_macs(network, (1, 8, 8)), count_params(network)
    print(f"extracted: {params} parameters, {macs} multiply-adds; the supernet has {count_params(model)} parameters")
    retrain(network, train, retrain_epochs, batch, options.seed)
    network.eval()
    with torch.no_grad():
        accuracy = (network(test[0]).argmax(1) == test[1]).float().mean().item()
    print(f"accuracy on {len(test[1])} test images, trained from scratch: {accuracy:.4f}")


if __name__ == "__main__":
    main()
