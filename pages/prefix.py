"""Prefix Tuning: the words of its page."""

from peft_lab.methods.shared.virtual_tokens import BRIDGED, PREFIX_LOST
from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
Prefix Tuning changes no weight. It changes **what attention can look at**: it puts a few trained keys and values
before those of each layer. Real tokens attend to them as if they were earlier text, but no such text has to
exist.

Training such a prefix directly is unstable. The paper therefore generates it from a smaller table with an MLP,
and discards the MLP after training. With this *projection*, you train many more parameters than you store.
""",
    formula=r"\mathrm{head} = \mathrm{softmax}\!\left(\frac{q\,[P_K;\,K]^{\top}}{\sqrt{d}}\right)[P_V;\,V]",
    differs=r"""
- PEFT writes the prefix into the key/value cache, so it does not work with classifiers of the BERT type.
- The paper uses the projection by default; PEFT does not.
- With grouped-query attention, the prefix has the width of the keys and values, not of the model.
"""
    f"- {PREFIX_LOST} {BRIDGED}\n",
)

method_page("prefix", first_model="smollm2-135m", words=WORDS)
