"""LoRA: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
A fine-tuned matrix is the pretrained one plus a correction, $W = W_0 + \Delta W$. LoRA assumes that the
correction has **low rank**: the correction is the product of two thin matrices, $\Delta W = \frac{\alpha}{r} B A$. The
large matrix stays frozen; only $A$ and $B$ are trained.

$A$ starts random and $B$ starts at zero, so before the first step the model answers exactly as before. In the
first step, only $B$ receives a gradient; $A$ follows once $B$ is no longer zero. After training, the product can be
**added to the weights**, and inference costs nothing extra.
""",
    formula=r"{h = W_0\,x + \frac{\alpha}{r}\,B\,A\,x}"
    r"\qquad\allowbreak {A \in \mathbb{R}^{r \times d_{in}},}\;\allowbreak {B \in \mathbb{R}^{d_{out} \times r}}",
    differs=r"""
- Variants are knobs. **rsLoRA** scales by $\alpha/\sqrt{r}$, so that large ranks keep learning. **DoRA** also trains
  the length of every row of $W$ (as in PEFT; the paper uses columns). **PiSSA** starts $A$ and $B$ from $W$'s largest
  singular directions and removes those from $W$. **LoRA+** gives $B$ a higher learning rate than $A$.
- LoRA+ is a setting of the optimizer. PEFT's `create_loraplus_optimizer` also raises the rate of every
  one-dimensional parameter, such as a head's bias. Here, as in the paper, only $B$ gets the higher rate.
- PiSSA changes the base model, so switching the adapter off does not restore the pretrained model.
- The paper draws $A$ from a normal distribution, and PEFT uses Kaiming-uniform. For the paper's start, set
  `init_lora_weights="gaussian"`.
- PEFT ignores a misspelt name in `target_modules` if another name matches. Here, every name must match.
- PEFT keeps adapter weights in float32 on a bfloat16 base model. Here adapter weights also compute in bfloat16;
  the optimizer keeps a float32 copy, which is saved.
""",
)

method_page("lora", first_model="smollm2-135m", words=WORDS)
