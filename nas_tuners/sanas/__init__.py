"""PaddleSlim's SANAS for PyTorch: simulated annealing on lists of tokens, in a loop that is yours."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
