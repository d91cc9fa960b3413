"""What a model that is no language model is, from the lists by task that transformers keeps."""

from __future__ import annotations

# Parts of the names of transformers' lists (MODEL_FOR_..._MAPPING_NAMES), the telling ones first: CLIP is also in the
# list of image classifiers, Whisper in that of decoders.
_SENSES = {
    "a model of images and text": (
        "IMAGE_TEXT_TO_TEXT", "MULTIMODAL", "VISUAL_QUESTION", "ZERO_SHOT_IMAGE", "ZERO_SHOT_OBJECT",
    ),
    "a speech or audio model": ("SPEECH", "AUDIO", "CTC", "WAVEFORM", "SPECTROGRAM", "RNNT", "TDT"),
    "a time series model": ("TIME_SERIES",),
    "a vision model": (
        "IMAGE", "OBJECT", "SEGMENTATION", "DEPTH", "VIDEO", "KEYPOINT", "MASK_GENERATION", "POSE", "NORMAL",
    ),
}  # fmt: skip


def what_it_is(model_type: str) -> str | None:
    """``a vision model`` and so on; ``None`` where transformers lists the architecture for none of these."""
    from transformers.models.auto import modeling_auto as auto

    listed = [
        name for name in dir(auto) if name.endswith("_MAPPING_NAMES") and model_type in getattr(auto, name)
    ]
    for sense, parts in _SENSES.items():
        if any(part in name for name in listed for part in parts):
            return sense
    return None
