"""Style sheets and scripts of the pages and their components, one file each."""

from __future__ import annotations

from functools import partial

from peft_lab.core.disk import beside

#: Return one file's text, with each ``%NAME%`` in it replaced by the value of that name.
read = partial(beside, __file__)
