"""Published transformers over tokens: their specifications, and the lengths and vocabularies they were built for."""

from scaling.models.shape import Preset
from scaling.specs.models import TransformerSpec
from scaling.specs.task import token_task


def _gpt(depth: int, width: int, num_tokens: int, head_size: int = 64) -> Preset:
    """Returns a GPT-2 or GPT-3, whose byte-pair vocabulary has 50,257 entries (Radford et al. 2019, section 2.2)."""
    spec = TransformerSpec(
        form="decoder", depth=depth, width=width, head_size=head_size, positions="learned", tied=True
    )
    return Preset(spec, token_task(50_257, num_tokens))


def _bert(depth: int, width: int) -> Preset:
    """Returns a BERT of the uncased vocabulary, up to its pooler (Devlin et al. 2018, sections 3 and A.2)."""
    spec = TransformerSpec(
        form="encoder",
        depth=depth,
        width=width,
        head_size=64,
        positions="learned",
        norm_position="post",
        tied=True,
        num_segments=2,
        has_pooler=True,
        has_embedding_norm=True,
        dropout=0.1,
    )
    return Preset(spec, token_task(30_522, 512, "none"))


def _xlnet(depth: int, width: int) -> Preset:
    """Returns an XLNet, up to its features (Yang et al. 2019, section A.4)."""
    spec = TransformerSpec(
        form="encoder",
        depth=depth,
        width=width,
        head_size=64,
        positions="relative",
        norm_position="post",
        tied=True,
        num_segments=2,
        dropout=0.1,
    )
    return Preset(spec, token_task(32_000, 512, "none"))


def _translator(width: int, dropout: float) -> Preset:
    """Returns a transformer of Vaswani et al. 2017, table 3, with about 37,000 shared tokens (section 5.1)."""
    spec = TransformerSpec(
        form="encoder_decoder",
        depth=6,
        width=width,
        head_size=64,
        activation="relu",
        positions="sinusoidal",
        norm_position="post",
        tied=True,
        dropout=dropout,
    )
    return Preset(spec, token_task(37_000, 256))


PRESETS = {
    # Radford et al. 2019, table 2. The paper's first two parameter counts (117M, 345M) were corrected with the release.
    "gpt2": _gpt(12, 768, 1024),
    "gpt2_medium": _gpt(24, 1024, 1024),
    "gpt2_large": _gpt(36, 1280, 1024),
    "gpt2_xl": _gpt(48, 1600, 1024),
    # Brown et al. 2020, table 2.1, dense attention in place of the alternating sparse patterns. Two of its entries
    # contradict its own counts (table D.1): the XL has 16 heads of 128 at d = 2048, not 24, and the 13B a width of 40
    # heads of 128, 5120, not 5140.
    "gpt3_small": _gpt(12, 768, 2048),
    "gpt3_medium": _gpt(24, 1024, 2048),
    "gpt3_large": _gpt(24, 1536, 2048, head_size=96),
    "gpt3_xl": _gpt(24, 2048, 2048, head_size=128),
    "gpt3_2_7b": _gpt(32, 2560, 2048, head_size=80),
    "gpt3_6_7b": _gpt(32, 4096, 2048, head_size=128),
    "gpt3_13b": _gpt(40, 5120, 2048, head_size=128),
    "gpt3_175b": _gpt(96, 12_288, 2048, head_size=128),
    "bert_base": _bert(12, 768),
    "bert_large": _bert(24, 1024),
    "xlnet_base": _xlnet(12, 768),
    "xlnet_large": _xlnet(24, 1024),
    "transformer_base": _translator(512, 0.1),
    "transformer_big": _translator(1024, 0.3),
}
