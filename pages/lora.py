"""LoRA: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
Fine-tuning adds a correction to a pretrained matrix: $W = W_0 + \Delta W$. LoRA assumes that the correction has
**low rank**, so it trains two thin matrices instead: $\Delta W = \frac{\alpha}{r} B A$. $W_0$ stays frozen.

$A$ starts random and $B$ at zero, so training starts from the pretrained model's answers. Afterwards the product can
be **added to the weights**, and inference costs nothing extra.
""",
    formula=r"{h = W_0\,x + \frac{\alpha}{r}\,B\,A\,x}"
    r"\qquad\allowbreak {A \in \mathbb{R}^{r \times d_{in}},}\;\allowbreak {B \in \mathbb{R}^{d_{out} \times r}}",
    differs=r"""
- Variants are settings. **rsLoRA** scales by $\alpha/\sqrt{r}$, so that large ranks keep learning. **DoRA** also
  trains the length of every row of $W$ (as in PEFT; the paper uses columns). **PiSSA** starts $A$ and $B$ from $W$'s
  largest singular directions. **LoRA+** gives $B$ a higher learning rate than $A$.
- PEFT's `create_loraplus_optimizer` also raises the rate of one-dimensional parameters. Here, as in the paper, only
  $B$ gets the higher rate.
- PiSSA changes the base model, so switching the adapter off does not restore the pretrained model.
- The paper draws $A$ from a normal distribution, PEFT from Kaiming-uniform. For the paper's start, set
  `init_lora_weights="gaussian"`.
- PEFT ignores a misspelt name in `target_modules` if another name matches. Here, every name must match.
- PEFT keeps adapter weights in float32 on a bfloat16 base model. Here they compute in bfloat16, and the optimizer
  keeps a float32 copy.
""",
)

method_page("lora", first_model="smollm2-135m", words=WORDS)
