from mutators.choices.errors import PruningError as PruningError
from mutators.pruning.pruner import GMPUnstructuredPruner as GMPUnstructuredPruner
from mutators.pruning.pruner import UnstructuredPruner as UnstructuredPruner
from mutators.pruning.report import sparsity_report as sparsity_report
from mutators.pruning.schedule import iterations as iterations
from mutators.pruning.sparse.runtime import sparse_inference as sparse_inference
