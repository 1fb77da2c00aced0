from jaxtyping import Float
from torch import Tensor

from whycam.kit.options import NonNegative
from whycam.kit.quantities import Relevance
from whycam.kit.registry import method


@method("CP-LRP", paper="arXiv:2202.07304")
def cp_lrp(
    relevance: Relevance, *, linear_gamma: NonNegative = 0.0, conv_gamma: NonNegative = 0.0
) -> Float[Tensor, "batch *space"]:
    """Hand the score back layer by layer in shares, down to the input, with attention and normalization held constant.

    Signed, in units of the score, at the input's own size: the relevance of a place is the sum over its colors. Each
    linear layer and convolution shares out by what each input added (the epsilon rule, with epsilon 0), activation
    functions pass relevance through, products of two features share equally. Attention weights, gates of a sigmoid and
    the deviations of normalizations are constants, so nothing is said of why the network attends where it does.

    Relevance is conserved, in transformers and convolutional networks: at every block it sums to the score, but for
    what biases and class or position embeddings add, which keep their share. (Of a batch normalization these are its
    shift and its mean.) A function without a rule passes the gradient as it is, and the notes name it.

    `linear_gamma` and `conv_gamma` count the parts of a sum that agree with it in sign so much more (the generalized
    gamma rule, doi:10.1007/978-3-030-28954-6_10, also for negative inputs), which makes maps less noisy; the authors of
    AttnLRP try 0.01 to 1 and 0.1 to 100 with a ViT. As published the rules have no such option and 0 is the default.

    Relevance of pixels follows single weights and is noisy in deep networks without a gamma. Written from the papers'
    formulas. The authors of AttnLRP's code state that LRP is patented and free for personal and scientific use alone.
    """
    return relevance(rules="cp_lrp", linear_gamma=linear_gamma, conv_gamma=conv_gamma).sum(1)
