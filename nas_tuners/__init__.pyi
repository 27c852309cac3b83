from nas_tuners.hosts.nni.tuner import SearchTuner as SearchTuner
from nas_tuners.runs.loop import run_search as run_search
from nas_tuners.runs.run import Run as Run
from nas_tuners.tuners import AnnealingTuner as AnnealingTuner
from nas_tuners.tuners import EvolutionTuner as EvolutionTuner
from nas_tuners.tuners import ProgressiveShrinkingTuner as ProgressiveShrinkingTuner
from nas_tuners.tuners import RandomTuner as RandomTuner
