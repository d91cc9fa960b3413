"""Silence harmless start-up messages of the libraries. Import this module before them."""

from __future__ import annotations

import logging
import os
import warnings

# An optional faster kernel of bitsandbytes that is not in the package index; without it, its own kernels are used.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "kernels-community" not in record.getMessage()
)
# Said at every multiplication of an 8-bit matrix, on every kind of device.
logging.getLogger("bitsandbytes.autograd._functions").addFilter(
    lambda record: "inputs will be cast" not in record.getMessage()
)
# PEFT asks transformers for a property that transformers has renamed.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
# The new name of this one is not in every release that the lab works with.
warnings.filterwarnings("ignore", "`gradient_checkpointing_enable` is deprecated", FutureWarning)
# Of a split base in 4 bits; nothing here writes into what such a module returns.
warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
