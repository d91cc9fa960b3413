"""Done once in the fork server, as every child that loads weights would do the same: no tensors, nothing that differs.

Transformers makes the table of how other releases named their parameters at a process's first model: a thousand
patterns are compiled, 45 ms of the half second before a small model's first loss. It is made when this module is
imported after transformers, as the fork server does; anywhere else importing it does nothing.
"""

from __future__ import annotations

import sys

if "transformers.modeling_utils" in sys.modules:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")
