"""The mutables of a model as a tree, whose inner nodes are scopes. After NNI 1.9's ``StructuredMutableTreeNode``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from mutators.choices.mutable import Mutable
from mutators.choices.walk import Site


class MutableTree(list[Mutable]):
    """A mutable with all that stand below it; as a list: in definition order, of those that share a key the first.

    Attributes:
        mutable: of this node; None for the model.
        children: the nodes below it.

    Differs: a list, so it can be indexed and compared; choices may have nodes below them as well.
    """

    def __init__(self, mutable: Mutable | None, children: Iterable[MutableTree]) -> None:
        self.mutable, self.children = mutable, list(children)
        super().__init__(self.traverse())

    def traverse(self, order: Literal["pre", "post"] = "pre", deduplicate: bool = True) -> Iterator[Mutable]:
        """Yield the mutables, parents before their children or ("post") after them.

        Args:
            order: "pre" or "post".
            deduplicate: yield only the first of those that share a key.

        Raises:
            ValueError: ``order`` is another word.
        """
        if order not in ("pre", "post"):
            raise ValueError(f"order is {order!r}, wanted 'pre' or 'post'.")
        seen = set[str]()
        for mutable in self._walk(order):
            if not deduplicate or mutable.key not in seen:
                seen.add(mutable.key)
                yield mutable

    def type(self) -> type:
        """Return the type of the mutable."""
        return type(self.mutable)

    def _walk(self, order: str) -> Iterator[Mutable]:
        own = [] if self.mutable is None else [self.mutable]
        yield from own if order == "pre" else ()
        for child in self.children:
            yield from child._walk(order)
        yield from own if order == "post" else ()


def make_tree(sites: list[Site]) -> MutableTree:
    """Make the tree of a model's mutables, which are bound, from their sites, parents first."""
    below: dict[str, list[Site]] = {site.path: [] for site in sites}
    top: list[Site] = []
    for site in sites:
        parts = site.path.split(".") if site.path else []
        above = (".".join(parts[:n]) for n in range(len(parts) - 1, -1, -1))
        parent = next((path for path in above if path in below), None)
        (top if parent is None else below[parent]).append(site)

    def make_nodes(some: list[Site]) -> Iterator[MutableTree]:
        return (MutableTree(site.mutable, make_nodes(below[site.path])) for site in some)

    return MutableTree(None, make_nodes(top))
