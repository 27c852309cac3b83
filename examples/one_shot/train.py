"""A one-shot supernet by hand: one model holds all architectures, and every step trains one of them at random.

Then the shared weights judge architectures without training any: the best of them is extracted as it is.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mutators import InputChoice, LayerChoice, RandomMutator, apply_choices, extract, search_space_of
from nas_tuners.search import RandomSearch
from search_spaces import Space


def block(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """(N, c_in, H, W) -> (N, c_out, H, W). GroupNorm: it has no statistics that architectures would have to share."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.GroupNorm(4, c_out), nn.ReLU())


class Supernet(nn.Module):
    """(N, 1, 8, 8) -> logits (N, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.first = LayerChoice({f"conv{k}x{k}": block(1, 16, k) for k in (1, 3, 5)})
        self.second = LayerChoice({f"conv{k}x{k}": block(16, 16, k) for k in (1, 3, 5)})
        self.skip = InputChoice(n_candidates=2, n_chosen=None)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10))

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        second = self.second(first)
        kept = self.skip([first, second])
        return self.head(second if kept is None else kept)  # any number of inputs: none is possible too


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return images[order[:1400]], labels[order[:1400]], images[order[1400:]], labels[order[1400:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    options = parser.parse_args()
    epochs = 3 if options.smoke else options.epochs

    torch.manual_seed(0)
    images, labels, valid_images, valid_labels = digits()
    supernet = Supernet()
    mutator = RandomMutator(supernet, seed=0)
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for at in torch.randperm(len(labels)).split(64):
            mutator.reset()  # another architecture for every step
            loss = nn.functional.cross_entropy(supernet(images[at]), labels[at])
            optimizer.zero_grad()  # sets to None: what was not chosen does not move
            loss.backward()
            optimizer.step()
        print(f"\repoch {epoch + 1}/{epochs}, loss {loss.item():.3f}", end="", flush=True)
    print()

    mutator.release()
    search = RandomSearch(seed=0)
    search.setup(Space.from_json(search_space_of(supernet)))
    while proposals := search.ask():
        for proposal in proposals:
            apply_choices(supernet, proposal.choices)
            with torch.no_grad():
                right = (supernet(valid_images).argmax(1) == valid_labels).float().mean().item()
            search.tell(proposal.uid, right)
    best = search.best
    assert best is not None
    print(f"best of {search.counts.told} architectures: {best.score:.4f} on {len(valid_labels)} validation images")
    for key, choice in best.choices.items():
        print(f"  {key}: {choice['_value']}")

    network = extract(supernet, best.choices)
    apply_choices(supernet, best.choices)
    difference = (network(valid_images) - supernet(valid_images)).abs().max().item()
    print(f"extracted: {sum(p.numel() for p in network.parameters())} parameters of the supernet's")
    print(f"{sum(p.numel() for p in supernet.parameters())}; largest difference of logits {difference:.1e}")


if __name__ == "__main__":
    main()
