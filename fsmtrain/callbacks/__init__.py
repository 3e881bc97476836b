"""Callbacks that come with the package. Each is small, and an example of how to write one; nothing else here uses them.

``from fsmtrain.callbacks import EMAWeightAveraging``
"""

from fsmtrain.callbacks.device_stats_monitor import DeviceStatsMonitor as DeviceStatsMonitor
from fsmtrain.callbacks.ema_weight_averaging import EMAWeightAveraging as EMAWeightAveraging
from fsmtrain.callbacks.gradient_norm_monitor import GradientNormMonitor as GradientNormMonitor
from fsmtrain.callbacks.gradual_unfreezing import GradualUnfreezing as GradualUnfreezing
from fsmtrain.callbacks.learning_rate_monitor import LearningRateMonitor as LearningRateMonitor
from fsmtrain.callbacks.prediction_writer import PredictionWriter as PredictionWriter
from fsmtrain.callbacks.print_samples import PrintSamples as PrintSamples

__all__ = [
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "GradientNormMonitor",
    "GradualUnfreezing",
    "LearningRateMonitor",
    "PredictionWriter",
    "PrintSamples",
]
