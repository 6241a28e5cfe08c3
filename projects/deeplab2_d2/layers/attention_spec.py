"""Self-attention as data."""

from dataclasses import dataclass, replace
from typing import Optional


@dataclass(frozen=True)
class AttentionSpec:
    """
    Self-attention as data.

    Attributes:
        key_expansion: channels of queries and of keys, over the width.
        value_expansion: channels of values, over the width.
        num_heads: how many.
        use_content: similarity of queries and keys.
        use_query_encoding: similarity of queries and relative positions.
        use_key_encoding: similarity of keys and relative positions.
        retrieve_content: values.
        retrieve_encoding: relative positions of the values.
        query_key_encoding_std: of the initial encodings.
        value_encoding_std: of the initial encodings.
        activation: "softmax" or "sigmoid", of the similarities.
        span: a pixel attends to this many pixels around it (odd); None for all.
        num_global_layers: of global attention: 2 have as many parameters as an axial pair.
    """

    key_expansion: float = 1.0
    value_expansion: float = 2.0
    num_heads: int = 8
    use_content: bool = True
    use_query_encoding: bool = True
    use_key_encoding: bool = True
    retrieve_content: bool = True
    retrieve_encoding: bool = True
    query_key_encoding_std: float = 1.0
    value_encoding_std: float = 1.0
    activation: str = "softmax"
    span: Optional[int] = None
    num_global_layers: int = 1

    def __post_init__(self) -> None:
        if not (self.use_content or self.use_query_encoding or self.use_key_encoding):
            raise ValueError("attention must use at least one of its similarities, got none")
        if not (self.retrieve_content or self.retrieve_encoding):
            raise ValueError("attention must retrieve content or encoding, got none")
        if self.span is not None and (self.span < 1 or self.span % 2 == 0):
            raise ValueError(f"attention span must be odd and positive, got {self.span}")

    def of_kind(self, kind: str) -> "AttentionSpec":
        """What blocks of a kind ("axial", "global", another) use of it; the rest at its default."""
        if kind == "axial":
            return replace(self, num_global_layers=1)
        if kind != "global":
            return AttentionSpec()
        return replace(
            self,
            use_content=True,
            use_query_encoding=False,
            use_key_encoding=False,
            retrieve_content=True,
            retrieve_encoding=False,
            span=None,
        )

    def key_channels(self, width: int) -> int:
        """Channels of queries and of keys for a width."""
        return int(round(width * self.key_expansion))

    def value_channels(self, width: int) -> int:
        """Channels of values, which are the output's, for a width."""
        return int(round(width * self.value_expansion))
