"""P-Tuning: the words of its page."""

from peft_lab.methods.shared.virtual_tokens import BRIDGED, PROMPT_REPEATED
from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
P-Tuning trains virtual tokens like Prompt Tuning, but does not train them directly: a small network, an
**LSTM or MLP**, produces them from a table of its own. All virtual tokens share its weights, and with the LSTM
each also depends on its neighbours. After training the network is run once and thrown away; only its output is
stored.

**P-Tuning v2** puts trained prompts in front of *every* layer. That is Prefix Tuning without the projection,
aimed at classification; PEFT has no class of that name.
""",
    formula=r"{h_0 = [\,f_\theta(e_1), \dots, f_\theta(e_n),\,E(x)\,]} \qquad\allowbreak "
    r"{f_\theta:\ \text{LSTM or MLP}}",
    differs=r"""
- PEFT's default encoder is an MLP as wide as the model, so that far more is trained than stored.
- The paper places virtual tokens anywhere in a template; PEFT puts them in front.
- The paper also trains with the base unfrozen; PEFT freezes it.
- On BERT types the virtual tokens stand before `[CLS]`, and the pooler reads the first position: in version 1 the
  classifier sees the first virtual token instead.
"""
    f"- {PROMPT_REPEATED} {BRIDGED}\n",
)

method_page("ptuning", first_model="minilm-l6", words=WORDS)
