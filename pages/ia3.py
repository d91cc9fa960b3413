"""IA³: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
IA³ adds no matrix. It learns three **vectors** per layer that scale the keys, the values, and the activations
inside the feed-forward part. A factor above one amplifies a channel; a factor below one inhibits it.

All factors start at one, so the model starts unchanged. Because $l \odot (W x) = (l \odot W)\,x$, the factors
can be multiplied into the weights after training.
""",
    formula=r"{k \leftarrow l_k \odot k} \qquad\allowbreak {v \leftarrow l_v \odot v} \qquad\allowbreak "
    r"{f \leftarrow l_{ff} \odot f}",
    differs=r"""
- Feed-forward modules are scaled at their *input*, all others at their output. PEFT needs a list of the feed-forward
  modules.
- On some architectures, PEFT's default targets differ from the paper's: q and v for Qwen2 and Gemma, q and k for OPT.
  *Inside* counts them.
- On BERT types, `output.dense` also matches the attention's output map. A factor there does what the values' factor
  already does.
- The paper trains with two extra losses (unlikelihood and length normalisation). Here only the task loss is used.
""",
)

method_page("ia3", first_model="minilm-l6", words=WORDS)
