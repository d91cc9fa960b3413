"""P-Tuning: the words of its page."""

from peft_lab.methods.shared.virtual_tokens import BRIDGED, PROMPT_REPEATED
from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
P-Tuning trains virtual tokens as Prompt Tuning does, but not directly. A small network, an **LSTM or MLP**,
produces them from its own table. All virtual tokens share the network's weights. With the LSTM, each virtual
token also depends on its neighbours. After training, the network runs once and is discarded; only its output is stored.

**P-Tuning v2** puts trained prompts in front of *every* layer. It is Prefix Tuning without the projection,
designed for classification; PEFT has no class of that name.
""",
    formula=r"{h_0 = [\,f_\theta(e_1), \dots, f_\theta(e_n),\,E(x)\,]} \qquad\allowbreak "
    r"{f_\theta:\ \text{LSTM or MLP}}",
    differs=r"""
- PEFT's default encoder is an MLP as wide as the model, so you train many more parameters than you store.
- The paper places virtual tokens anywhere in a template; PEFT puts them in front.
- The paper also trains with an unfrozen base model; PEFT freezes it.
- On BERT types the virtual tokens stand before `[CLS]`, and the pooler reads the first position: in version 1 the
  classifier sees the first virtual token instead.
"""
    f"- {PROMPT_REPEATED} {BRIDGED}\n",
)

method_page("ptuning", first_model="minilm-l6", words=WORDS)
