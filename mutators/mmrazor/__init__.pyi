from mutators.mmrazor.mutable_cfg import load_mutable_cfg as load_mutable_cfg
from mutators.mmrazor.mutable_cfg import save_mutable_cfg as save_mutable_cfg
from mutators.mmrazor.mutables import DifferentiableEdge as DifferentiableEdge
from mutators.mmrazor.mutables import DifferentiableOP as DifferentiableOP
from mutators.mmrazor.mutables import OneShotOP as OneShotOP
from mutators.mmrazor.oneshot_mutator import OneShotMutator as OneShotMutator
from mutators.mmrazor.placeholder import Placeholder as Placeholder
from mutators.mmrazor.placeholder import convert_placeholders as convert_placeholders
