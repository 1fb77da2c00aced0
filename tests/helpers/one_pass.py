"""How many methods a single pass serves, so that a new one changes no test that counts passes."""

from whycam.kit.quantities import OF_ATTENTION
from whycam.kit.registry import methods

MANY = {"score", "score_from", "trace", "differentiate", "relevance"}
SLOPES = {"gradients", "input_gradients", "guided_gradients", "bias_gradients", "curvature"}
#: Of the methods that one pass of any network serves: all, and those that go back from the score too.
ONE_PASS = [each for each in methods().values() if not each.needs & (MANY | OF_ATTENTION)]
FORWARDS, BACKWARDS = len(ONE_PASS), len([each for each in ONE_PASS if each.needs & SLOPES])
