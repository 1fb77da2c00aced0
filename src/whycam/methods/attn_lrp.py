from jaxtyping import Float
from torch import Tensor

from whycam.kit.options import NonNegative
from whycam.kit.quantities import Relevance
from whycam.kit.registry import method


@method("AttnLRP", paper="arXiv:2402.05602")
def attn_lrp(
    relevance: Relevance, *, linear_gamma: NonNegative = 0.0, conv_gamma: NonNegative = 0.0
) -> Float[Tensor, "batch *space"]:
    """Hand the score back layer by layer in shares, down to the input, through attention's softmax too.

    Signed, in units of the score, at the input's own size. As CP-LRP, but softmax is not a constant: relevance of the
    attention weights goes on to queries and keys by softmax's Taylor expansion at its input, so that a place can count
    because others attend to it. Of a product of attention and values, and of queries and keys, each factor gets half.

    It is not conserved: the expansion of softmax has a constant term, which keeps a share that may be larger than the
    score, and of either sign. In a network without attention it is CP-LRP. For images the authors' own code offers
    CP-LRP inside the attention of a ViT, which is easier to tune; `linear_gamma` and `conv_gamma` are as there.

    Written from the paper's formulas, in their form of input times gradient. The authors of AttnLRP's code state that
    LRP is patented and free for personal and scientific use alone.
    """
    return relevance(rules="attn_lrp", linear_gamma=linear_gamma, conv_gamma=conv_gamma).sum(1)
