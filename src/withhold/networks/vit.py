"""A small vision transformer for small images (Dosovitskiy et al., 2021), with mean-pooled tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput


class Attention(nn.Module):
    """Multi-head self-attention.

    Its fused kernels have no second derivative: whoever differentiates twice, or forwards, wraps the call in
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (b, tokens, width) to the same shape."""
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class Block(nn.Module):
    """Pre-norm transformer block with a two-layer perceptron of twice the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (b, tokens, width) to the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens))
        grown: Tensor = tokens + self.mlp(self.norm2(tokens))
        return grown


class VisionTransformer(nn.Module):
    """Patches of one eighth of the side, learned positions, mean-pooled tokens.

    Args:
        input_size: Side of the images; a multiple of 8.
        width: Length of a token; a multiple of `heads`.
    """

    def __init__(self, classes: int, input_size: int, *, width: int = 192, depth: int = 6, heads: int = 3) -> None:
        super().__init__()
        patches = 8
        if input_size % patches:
            msg = f"the built-in transformer needs an input size that is a multiple of {patches}; got {input_size}."
            raise InvalidInput(msg)
        self.embed = nn.Conv2d(3, width, input_size // patches, input_size // patches)
        self.positions = nn.Parameter(torch.randn(patches * patches, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, input_size, input_size) to logits (b, classes)."""
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(dim=1))
        return logits
