"""MMRazor 0.3's way to supernets: placeholders, one-shot mutators, ``mutable_cfg`` files."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
