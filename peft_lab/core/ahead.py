"""Do work once in the fork server instead of in every child that loads weights. It creates no tensors.

At a process's first model, Transformers builds the table of how other releases named their parameters: it compiles a
thousand patterns, 45 ms of the half second before a small model's first loss. Importing this module after transformers,
as the fork server does, builds the table; anywhere else importing it does nothing.
"""

from __future__ import annotations

import sys

if "transformers.modeling_utils" in sys.modules:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")
