from mutators.choices.errors import OneShotError as OneShotError
from mutators.oneshot.batchnorm import recalibrate_bn as recalibrate_bn
from mutators.oneshot.config import TrainConfig as TrainConfig
from mutators.oneshot.paths import macs_bins as macs_bins
from mutators.oneshot.scoring import evaluate as evaluate
from mutators.oneshot.train import train_supernet as train_supernet
