from mutators.costs.count import count_macs as count_macs
from mutators.costs.count import count_params as count_params
from mutators.costs.count import macs_by_module as macs_by_module
from mutators.costs.latency import latency_of as latency_of
from mutators.costs.latency_table import measure_latency as measure_latency
from mutators.costs.measure import measure_cost as measure_cost
