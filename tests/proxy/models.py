"""Tiny encoders with random weights, saved as any pretrained model is: a Llama, an Idefics3 and a LLaVA."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

WIDTH, LAYERS = 16, 2
TEXT = 'The compression word is:" a film of toys that come alive'
_EYES = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(special: dict[str, str] | None = None, text: str = TEXT) -> PreTrainedTokenizerFast:
    """Byte-level BPE with 300 tokens, made of a text, `<s>`, `</s>`, `<pad>` and these special ones, by their names."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = ["<pad>", "<s>", "</s>", *(special or {}).values()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [text] * 3,
        trainers.BpeTrainer(vocab_size=300 + len(names), special_tokens=names, initial_alphabet=alphabet),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=special or {},
    )


def _llama(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }


def llama(folder: Path, text: str = TEXT, **changes: Any) -> Path:
    """A causal language model whose tokenizer knows the words of a text; `changes` are to its config."""
    words = tokenizer(text=text)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**_llama(len(words)), **changes})).save_pretrained(folder)
    return folder


def idefics3(folder: Path) -> Path:
    """Eyes of 32 x 32 pixels in patches of 8; an image is cut into tiles."""
    words = tokenizer(
        {
            "fake": "<fake_token_around_image>",
            "image_token": "<image>",
            "end": "<end_of_utterance>",
            "all": "<global-img>",
        }
    )
    size = {"longest_edge": 64}
    looks = Idefics3ImageProcessor(size=size, max_image_size={"longest_edge": 32})
    Idefics3Processor(looks, words, image_seq_len=4).save_pretrained(folder)
    config = Idefics3Config(
        text_config={"model_type": "llama", **_llama(len(words))},
        vision_config={**_EYES, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=words.get_vocab()["<image>"],
    )
    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    """CLIP's eyes of 16 x 16 pixels in patches of 8."""
    words = tokenizer({"image_token": "<image>"})
    looks = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(
        looks, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)
    config = LlavaConfig(
        text_config={"model_type": "llama", **_llama(len(words))},
        vision_config={"model_type": "clip_vision_model", **_EYES, "image_size": 16, "patch_size": 8},
        image_token_index=words.get_vocab()["<image>"],
        image_seq_length=4,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def internvl(folder: Path) -> Path:
    """Eyes of 32 x 32 pixels in patches of 8, of which four make a token. Its processor needs torchvision."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer(names)
    size = {"height": 32, "width": 32}
    looks = GotOcr2ImageProcessor(size=size, max_patches=2)
    InternVLProcessor(looks, words, InternVLVideoProcessor(size=size), image_seq_length=4).save_pretrained(folder)
    config = InternVLConfig(
        text_config={"model_type": "llama", **_llama(len(words))},
        vision_config={**_EYES, "image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=words.get_vocab()["<IMG_CONTEXT>"],
        image_seq_length=4,
    )
    torch.manual_seed(0)
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    return folder
