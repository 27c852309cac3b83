from nas_tuners.search.annealing import Annealing as Annealing
from nas_tuners.search.base import Search as Search
from nas_tuners.search.evolution import Evolution as Evolution
from nas_tuners.search.random import RandomSearch as RandomSearch
from nas_tuners.search.records import SearchError as SearchError
from nas_tuners.search.shrinking import Shrinking as Shrinking
from search_spaces.errors import ConstraintError as ConstraintError
