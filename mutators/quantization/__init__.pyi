from mutators.choices.errors import QuantizationError as QuantizationError
from mutators.quantization.layers import QuantizedConv2d as QuantizedConv2d
from mutators.quantization.layers import QuantizedLinear as QuantizedLinear
