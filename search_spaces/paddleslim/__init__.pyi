from search_spaces.paddleslim.codec import initial_tokens as initial_tokens
from search_spaces.paddleslim.costs import cost_table_of as cost_table_of
