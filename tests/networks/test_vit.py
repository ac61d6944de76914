import pytest
import torch
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from withhold.errors import InvalidInput
from withhold.networks.vit import Attention, VisionTransformer


def test_maps_images_to_logits() -> None:
    assert VisionTransformer(5, 32, width=12, depth=1)(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_needs_a_side_that_is_a_multiple_of_eight() -> None:
    with pytest.raises(InvalidInput, match="multiple of 8; got 30"):
        VisionTransformer(5, 30)


def test_attention_to_equal_tokens_returns_their_common_value() -> None:
    attention = Attention(4, 2)
    tokens = torch.randn(1, 1, 4).expand(1, 3, 4)
    value = tokens @ attention.qkv.weight[8:].T + attention.qkv.bias[8:]
    torch.testing.assert_close(attention(tokens), value @ attention.out.weight.T + attention.out.bias)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch's own forward mode
def test_forward_mode_over_the_weights_works_with_plain_attention() -> None:
    network = VisionTransformer(3, 8, width=6, depth=1)
    weights = dict(network.named_parameters())
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        change = jvp(lambda p: functional_call(network, p, (images,)), (weights,), (weights,))[1]
        (gradient,) = torch.autograd.grad(change.sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
