from nas_tuners.sanas.sanas import SANAS as SANAS
from nas_tuners.sanas.sanas import SANASError as SANASError
from nas_tuners.sanas.sanas import SearchFinished as SearchFinished
