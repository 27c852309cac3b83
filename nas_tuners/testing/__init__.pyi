from nas_tuners.testing.suite import CHECKS as CHECKS
from nas_tuners.testing.suite import TUNER_CHECKS as TUNER_CHECKS
from nas_tuners.testing.suite import check_search as check_search
from nas_tuners.testing.suite import check_tuner as check_tuner
