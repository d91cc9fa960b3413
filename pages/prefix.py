"""Prefix Tuning: the words of its page."""

from peft_lab.methods.shared.virtual_tokens import BRIDGED, PREFIX_LOST
from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
Prefix Tuning leaves every weight alone and changes **what attention can look at**. Before each layer's keys
and values it puts a few trained ones. Real tokens attend to them as if they were earlier text, except that no
text has to exist for them.

Trained directly, such a prefix is unstable, so the paper generates it from a smaller table by an MLP and
throws the MLP away after training. With that *projection* on, many more parameters are trained than are
stored.
""",
    formula=r"\mathrm{head} = \mathrm{softmax}\!\left(\frac{q\,[P_K;\,K]^{\top}}{\sqrt{d}}\right)[P_V;\,V]",
    differs=r"""
- PEFT writes the prefix into the key/value cache, which is why classifiers of
  the BERT type cannot take it.
- The paper uses the projection by default; PEFT's default is off.
- With grouped-query attention the prefix has the width of the keys and values, not of the model.
"""
    f"- {PREFIX_LOST} {BRIDGED}\n",
)

method_page("prefix", first_model="smollm2-135m", words=WORDS)
