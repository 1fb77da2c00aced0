from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize as to_length_one

from whycam.kit.arrays import normalize
from whycam.kit.quantities import Projection, TokenGrid
from whycam.kit.registry import method


@method("Grad-ECLIP", paper="arXiv:2502.18816")
def grad_eclip(
    queries: Float[Tensor, "batch head query width"],
    keys: Float[Tensor, "batch head key width"],
    values: Float[Tensor, "batch head key width"],
    head_output_gradients: Float[Tensor, "batch head query width"],
    output_projection: Projection,
    token_grid: TokenGrid,
    *,
    similarity: bool = True,
) -> Float[Tensor, "batch *spatial"]:
    """Weight each patch's values in the last block by the gradient at what the class token took from it (section 3.2).

    `relu(sum_d g_d v_id * s_i)`: g is the gradient of the score at the class token's attention output, v_i the values
    of patch i, and s_i, from 0 to 1, how like the class token's query the patch's key is. In units of the score.

    The likeness is the cosine of query and key after the output projection with its bias, as the authors' code has it;
    without the projection it is another map. `similarity=False` leaves it out. The released code attends with one head
    where the model has several, and so explains another score; here the model's own heads are read.

    Where the answer is read from several tokens, the same is done for each of their rows, and added up.
    """
    products = (head_output_gradients @ values.mT).sum(1)
    batch, rows = products.shape[:2]
    maps = token_grid(products.flatten(0, 1))
    if similarity:
        asks, offers = output_projection(queries), output_projection(keys)
        likeness = to_length_one(asks, dim=-1) @ to_length_one(offers, dim=-1).mT
        maps = maps * normalize(token_grid(likeness.flatten(0, 1)), "minmax")
    return maps.reshape(batch, rows, *maps.shape[1:]).sum(1).relu()
