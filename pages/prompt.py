"""Prompt Tuning: the words of its page."""

from peft_lab.methods.shared.virtual_tokens import BRIDGED, PROMPT_REPEATED
from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
Prompt Tuning trains part of the **input itself**: a few vectors in front of the token embeddings. The vectors
belong to no word. The whole model is frozen. The method trains the fewest parameters, acts only through the model's
input, and needs one small matrix per task.

Small models make this hard: in the paper, Prompt Tuning matches full fine-tuning only near ten billion
parameters. The learning rate and the initial text matter more than the number of vectors.
""",
    formula=r"{h_0 = [\,P;\,E(x)\,]} \qquad\allowbreak {P \in \mathbb{R}^{n \times d}}",
    differs=r"""
- The paper trains with Adafactor and a learning rate of 0.3. PEFT Lab uses AdamW with the rate from the Train tab.
- Each virtual token takes up one position, so the longest possible text is shorter by the number of virtual tokens.
- On BERT types the virtual tokens stand before `[CLS]`, and the pooler reads the first position: the classifier
  sees the first virtual token instead.
- Fewer trainable parameters do not mean less memory: the sequence is longer, and gradients pass through the whole
  model.
"""
    f"- {PROMPT_REPEATED} {BRIDGED}\n",
)

method_page("prompt", first_model="minilm-l6", words=WORDS)
