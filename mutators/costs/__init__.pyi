from mutators.costs.count import count_bit_operations as count_bit_operations
from mutators.costs.count import count_macs as count_macs
from mutators.costs.count import count_params as count_params
from mutators.costs.latency_table import measure_latency as measure_latency
from mutators.costs.measure import measure_cost as measure_cost
