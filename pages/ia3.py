"""IA³: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
IA³ adds no matrix at all. It learns three **vectors** per layer that stretch or shrink what is already there:
the keys, the values, and the activations inside the feed-forward part. A factor above one amplifies a
channel, below one inhibits it.

All factors start at one, so the model starts unchanged. And because $l \odot (W x) = (l \odot W)\,x$, they
can be multiplied into the weights afterwards.
""",
    formula=r"{k \leftarrow l_k \odot k} \qquad\allowbreak {v \leftarrow l_v \odot v} \qquad\allowbreak "
    r"{f \leftarrow l_{ff} \odot f}",
    differs=r"""
- Feed-forward modules are scaled at their *input*, all others at their output; PEFT needs a list of the
  feed-forward ones.
- On some architectures PEFT's default targets differ from the paper's: Qwen2 and Gemma get q and v, OPT q and k. *Look
  inside* counts them.
- On BERT types `output.dense` also hits the attention's output map, where a factor repeats what the values' does.
- The paper trains with two extra losses (unlikelihood and length normalisation); here it is the plain task
  loss.
""",
)

method_page("ia3", first_model="minilm-l6", words=WORDS)
