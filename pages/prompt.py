"""Prompt Tuning: the words of its page."""

from peft_lab.methods.shared.virtual_tokens import BRIDGED, PROMPT_REPEATED
from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
Prompt Tuning trains the **input itself**: a handful of vectors that stand in front of the token embeddings
and belong to no word. Everything behind them is frozen. It is the smallest method, works only
through the model's input, and needs one small matrix per task.

The smaller the model, the harder this is: the paper reaches full fine-tuning only near ten billion
parameters. Learning rate and the text that the vectors start from matter more than the number of vectors.
""",
    formula=r"{h_0 = [\,P;\,E(x)\,]} \qquad\allowbreak {P \in \mathbb{R}^{n \times d}}",
    differs=r"""
- The paper trains with Adafactor and a learning rate of 0.3; here it is AdamW with the rate on the Train tab.
- The virtual tokens take up positions, so the longest possible text is that much shorter.
- On BERT types the virtual tokens stand before `[CLS]`, and the pooler reads the first position: the classifier
  sees the first virtual token instead.
- Fewer trained parameters do not mean less memory: the sequence gets longer, and gradients run through the
  whole model.
"""
    f"- {PROMPT_REPEATED} {BRIDGED}\n",
)

method_page("prompt", first_model="minilm-l6", words=WORDS)
