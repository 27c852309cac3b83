"""How good are the searches? Regret on real tables and on large landscapes, ours and others' in one run."""
