"""Self-attention as data."""

from dataclasses import dataclass
from typing import Optional

FORMS = ("lean", "direct")


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
        form: "lean" makes one L x M map a head, a few sequences at a time, and makes it again in
            backward; "direct" makes a map for every term and keeps them, as DeepLab2 does. Their
            values are the same.
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
    form: str = "lean"

    def __post_init__(self) -> None:
        if not (self.use_content or self.use_query_encoding or self.use_key_encoding):
            raise ValueError("attention must use at least one of its similarities, got none")
        if not (self.retrieve_content or self.retrieve_encoding):
            raise ValueError("attention must retrieve content or encoding, got none")
        if self.span is not None and (self.span < 1 or self.span % 2 == 0):
            raise ValueError(f"attention span must be odd and positive, got {self.span}")
        if self.form not in FORMS:
            raise ValueError(f"attention form must be one of {FORMS}, got {self.form!r}")

    def key_channels(self, width: int) -> int:
        """Channels of queries and of keys for a width."""
        return int(round(width * self.key_expansion))

    def value_channels(self, width: int) -> int:
        """Channels of values, which are the output's, for a width."""
        return int(round(width * self.value_expansion))
