"""Made by docs/stub.py from the code; `python docs/generate.py` renews it."""

from whycam.kit.metric import Metric

adcc: Metric
arcc: Metric
average_drop: Metric
average_gain: Metric
class_randomization: Metric
deletion: Metric
energy_pointing_game: Metric
entropy: Metric
faithfulness_correlation: Metric
grid_pointing_game: Metric
increase_in_confidence: Metric
infidelity: Metric
input_invariance: Metric
insertion: Metric
irof: Metric
mask_iou: Metric
max_box_acc: Metric
max_sensitivity: Metric
model_randomization: Metric
pixel_average_precision: Metric
pointing_game: Metric
road: Metric
sensitivity_n: Metric
sparseness: Metric
