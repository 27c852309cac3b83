from search_spaces.errors import PhaseError as PhaseError
from search_spaces.phases.phase import Phase as Phase
from search_spaces.phases.shrinking import progressive as progressive
