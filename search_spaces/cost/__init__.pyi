from search_spaces.cost.table import CostTable as CostTable
from search_spaces.errors import CostError as CostError
