"""Architectures that `exports.py` exports: from transformers, and hand-written ones.

Each is a module that takes tensors and gives tensors, with a value for each input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers as tf
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Example:
    """A module and what it is traced with.

    Attributes:
        module: takes tensors by position, gives a tensor or a tuple of tensors.
        inputs: a value of each input, by name.
        outputs: names of the outputs.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]


@dataclass(frozen=True)
class Architecture:
    """What can be exported.

    Attributes:
        make: makes it; is told whether the small one is wanted, and what the configuration of the
            full one is to say beside the published sizes.
        origin: where it is from.
        depth: what the configuration calls the number of layers; empty where it is not cut.
    """

    make: Callable[..., Example]
    origin: str
    depth: str = ""


# ---- wrappers: tensors in, tensors out ---------------------------------------------------------


class Fields(nn.Module):
    """A model of transformers, called by keyword, of whose result some fields are wanted."""

    def __init__(
        self, model: nn.Module, keywords: list[str], fields: list[str], **fixed: Any
    ) -> None:
        super().__init__()
        self.model, self.keywords, self.fields, self.fixed = model, keywords, fields, fixed

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The wanted fields."""
        given = dict(zip(self.keywords, values, strict=True))
        result = self.model(**given, **self.fixed, return_dict=True)
        return tuple(result[name] for name in self.fields)


class Cached(nn.Module):
    """A decoder: tokens, mask and the keys and values of each layer; logits and those that grew."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """One step of decoding."""
        pairs = list(zip(past[::2], past[1::2], strict=True))
        cache = tf.DynamicCache(pairs)
        result = self.model(
            input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        grown = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        return (result.logits, *grown)


class CrossAttending(nn.Module):
    """The decoder of T5 without a cache: tokens, states of the encoder and its mask; logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Logits of each position."""
        result = self.model.decoder(
            input_ids=tokens,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        )
        return self.model.lm_head(result.last_hidden_state)


class UNet(nn.Module):
    """A U-Net of three levels: convolutions with batch normalization, skips by concatenation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        ins = [3, *widths]
        self.down = nn.ModuleList(self._block(a, b) for a, b in zip(ins, widths, strict=False))
        self.bottom = self._block(widths[-1], 8 * width)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[::-1])
        self.merge = nn.ModuleList(self._block(2 * w, w) for w in widths[::-1])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _block(inside: int, outside: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (inside, outside):
            layers += [nn.Conv2d(channels, outside, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outside), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores of each pixel."""
        skips = []
        for block in self.down:
            image = block(image)
            skips.append(image)
            image = nn.functional.max_pool2d(image, 2)
        image = self.bottom(image)
        for up, merge in zip(self.up, self.merge, strict=True):
            image = merge(torch.cat([skips.pop(), up(image)], dim=1))
        return self.head(image)


class Lstm(nn.Module):
    """A tagger: embedding, two bidirectional LSTM layers, a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(5000, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * width, 32)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of each position."""
        states, _ = self.lstm(self.embed(tokens))
        return self.head(states)


# ---- architectures -----------------------------------------------------------------------------


def _image(side: int) -> Tensor:
    return torch.randn(1, 3, side, side)


def _tokens(length: int, count: int = 500) -> Tensor:
    return torch.randint(1, count, (1, length))


def _classifier(name: str, small: dict[str, Any], side: int, **full: Any) -> Callable[..., Example]:
    """An image classifier of transformers."""

    def make(is_small: bool, **more: Any) -> Example:
        config = getattr(tf, f"{name}Config")(**(small if is_small else full | more))
        model = getattr(tf, f"{name}ForImageClassification")(config)
        size = getattr(config, "image_size", None) or (64 if is_small else side)
        return Example(
            Fields(model, ["pixel_values"], ["logits"]), {"pixels": _image(size)}, ["logits"]
        )

    return make


def _encoder(
    kind: str, fields: list[str], small: dict[str, Any], **full: Any
) -> Callable[..., Example]:
    """A text encoder of transformers: tokens and mask in."""

    def make(is_small: bool, **more: Any) -> Example:
        config = getattr(tf, f"{kind}Config")(**(small if is_small else full | more))
        length = 16 if is_small else 128
        inputs = {
            "input_ids": _tokens(length),
            "attention_mask": torch.ones(1, length, dtype=torch.int64),
        }
        if kind == "Bert":
            inputs["token_type_ids"] = torch.zeros(1, length, dtype=torch.int64)
        model = getattr(tf, f"{kind}Model")(config)
        return Example(Fields(model, list(inputs), fields), inputs, fields)

    return make


def _segformer(is_small: bool) -> Example:
    small = {"hidden_sizes": [16, 32, 48, 64], "depths": [1] * 4, "decoder_hidden_size": 64}
    config = tf.SegformerConfig(**(small if is_small else {}))
    model = tf.SegformerForSemanticSegmentation(config)
    image = {"pixels": _image(64 if is_small else 224)}
    return Example(Fields(model, ["pixel_values"], ["logits"]), image, ["logits"])


def _with_cache(model: nn.Module, shape: tuple[int, int, int, int], layers: int) -> Example:
    past = shape[2]
    inputs = {"input_ids": _tokens(1), "attention_mask": torch.ones(1, past + 1, dtype=torch.int64)}
    outputs = ["logits"]
    for layer in range(layers):
        for part in ("key", "value"):
            inputs[f"past.{layer}.{part}"] = torch.randn(shape)
            outputs.append(f"present.{layer}.{part}")
    return Example(Cached(model), inputs, outputs)


def _gpt2(is_small: bool, **more: Any) -> Example:
    small = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500}
    config = tf.GPT2Config(**(small if is_small else more))
    width = config.n_embd // config.n_head
    past = 16 if is_small else 128
    shape = (1, config.n_head, past, width)
    return _with_cache(tf.GPT2LMHeadModel(config), shape, config.n_layer)


def _llama_config(is_small: bool) -> tf.LlamaConfig:
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500}
    full = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4}
    full |= {"num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 8000}
    return tf.LlamaConfig(**(small if is_small else full))


def _llama_cache(is_small: bool) -> Example:
    config = _llama_config(is_small)
    width = config.hidden_size // config.num_attention_heads
    shape = (1, config.num_key_value_heads, 16 if is_small else 128, width)
    return _with_cache(tf.LlamaForCausalLM(config), shape, config.num_hidden_layers)


def _llama(is_small: bool) -> Example:
    length = 16 if is_small else 128
    inputs = {
        "input_ids": _tokens(length),
        "attention_mask": torch.ones(1, length, dtype=torch.int64),
    }
    model = tf.LlamaForCausalLM(_llama_config(is_small))
    return Example(Fields(model, list(inputs), ["logits"], use_cache=False), inputs, ["logits"])


def _t5_config(is_small: bool) -> tf.T5Config:
    small = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return tf.T5Config(
        **(small | {"vocab_size": 500} if is_small else {}), decoder_start_token_id=0
    )


def _t5_encoder(is_small: bool) -> Example:
    length = 16 if is_small else 128
    inputs = {
        "input_ids": _tokens(length),
        "attention_mask": torch.ones(1, length, dtype=torch.int64),
    }
    field = ["last_hidden_state"]
    return Example(
        Fields(tf.T5EncoderModel(_t5_config(is_small)), list(inputs), field), inputs, field
    )


def _t5_decoder(is_small: bool) -> Example:
    config = _t5_config(is_small)
    length = 16 if is_small else 128
    inputs = {
        "input_ids": _tokens(length),
        "encoder_hidden_states": torch.randn(1, length, config.d_model),
        "encoder_attention_mask": torch.ones(1, length, dtype=torch.int64),
    }
    return Example(CrossAttending(tf.T5ForConditionalGeneration(config)), inputs, ["logits"])


def _whisper(is_small: bool) -> Example:
    small = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4}
    small |= {"encoder_ffn_dim": 128, "decoder_layers": 2, "decoder_attention_heads": 4}
    small |= {"vocab_size": 500, "pad_token_id": 0, "max_source_positions": 50}
    full = {"max_source_positions": 500}
    config = tf.WhisperConfig(**(small if is_small else full))
    model = tf.WhisperModel(config).get_encoder()
    frames = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
    field = ["last_hidden_state"]
    return Example(Fields(model, ["input_features"], field), {"input_features": frames}, field)


def _unet(is_small: bool) -> Example:
    side = 32 if is_small else 128
    return Example(UNet(4 if is_small else 16), {"image": _image(side)}, ["scores"])


def _lstm(is_small: bool) -> Example:
    return Example(Lstm(32 if is_small else 256), {"tokens": _tokens(64, 5000)}, ["scores"])


_VIT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_VIT |= {"intermediate_size": 128, "image_size": 32, "patch_size": 8}
_SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "image_size": 64}
_SWIN |= {"window_size": 4, "patch_size": 4}
_BERT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_BERT |= {"intermediate_size": 128, "vocab_size": 500}
_DISTIL = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 500}
_MINI = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
_MINI |= {"intermediate_size": 1536}
_POOLED = ["last_hidden_state", "pooler_output"]
_HIDDEN = ["last_hidden_state"]
_CONVNEXT = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
_RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}

_LAYERS = "num_hidden_layers"

ARCHITECTURES = {
    "resnet50": Architecture(_classifier("ResNet", _RESNET, 224), "transformers ResNet, defaults"),
    "mobilenetv2": Architecture(
        _classifier("MobileNetV2", {"depth_multiplier": 0.35, "image_size": 64}, 224),
        "transformers MobileNetV2, defaults",
    ),
    "convnext": Architecture(
        _classifier("ConvNext", _CONVNEXT, 224), "transformers ConvNext, defaults (tiny)"
    ),
    "swin": Architecture(_classifier("Swin", _SWIN, 224), "transformers Swin, defaults (tiny)"),
    "vit": Architecture(
        _classifier("ViT", _VIT, 224), "transformers ViT, defaults (base)", _LAYERS
    ),
    "segformer": Architecture(_segformer, "transformers Segformer, defaults (b0), 224²"),
    "bert": Architecture(
        _encoder("Bert", _POOLED, _BERT), "transformers Bert, defaults (base), seq 128", _LAYERS
    ),
    "distilbert": Architecture(
        _encoder("DistilBert", _HIDDEN, _DISTIL),
        "transformers DistilBert, defaults, seq 128",
        "n_layers",
    ),
    "minilm": Architecture(
        _encoder("Bert", _POOLED, _BERT | {"num_attention_heads": 2}, **_MINI),
        "transformers Bert, sizes of MiniLM-L6, seq 128",
        _LAYERS,
    ),
    "gpt2": Architecture(
        _gpt2, "transformers GPT2 with cache, defaults, one token after 128", "n_layer"
    ),
    "llama": Architecture(_llama, "transformers Llama, 4 layers, GQA 16/4, seq 128"),
    "llama-cache": Architecture(
        _llama_cache, "transformers Llama with cache, 4 layers, GQA 16/4, one token after 128"
    ),
    "t5-encoder": Architecture(_t5_encoder, "transformers T5 encoder, defaults (small), seq 128"),
    "t5-decoder": Architecture(_t5_decoder, "transformers T5 decoder without cache, seq 128"),
    "whisper-encoder": Architecture(
        _whisper, "transformers Whisper encoder, defaults (tiny), 10 s of sound"
    ),
    "unet": Architecture(_unet, "hand-written U-Net of three levels, 128²"),
    "lstm": Architecture(_lstm, "hand-written tagger, two bidirectional LSTM layers, 64 tokens"),
}
"""By name."""
