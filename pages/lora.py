"""LoRA: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
A fine-tuned matrix is the pretrained one plus a correction, $W = W_0 + \Delta W$. LoRA's bet is that the
correction a task needs has **low rank**: it can be written as the product of two thin matrices, $\Delta W =
\frac{\alpha}{r} B A$. The big matrix stays frozen; only $A$ and $B$ are trained.

$A$ starts random and $B$ starts at zero, so before the first step the model answers exactly as before. In the
first step only $B$ receives a gradient; $A$ follows once $B$ has moved. After training the product can be
**added into the weights**, and inference costs nothing extra.
""",
    formula=r"{h = W_0\,x + \frac{\alpha}{r}\,B\,A\,x}"
    r"\qquad\allowbreak {A \in \mathbb{R}^{r \times d_{in}},}\;\allowbreak {B \in \mathbb{R}^{d_{out} \times r}}",
    differs=r"""
- Variants as knobs: **rsLoRA** scales by $\alpha/\sqrt{r}$, so that large ranks keep learning; **DoRA** also trains the
  length of every row of $W$ (so PEFT has it; the paper takes the columns); **PiSSA** starts $A$ and $B$ from $W$'s
  largest singular directions and takes those out of $W$; **LoRA+** lets $B$ learn faster than $A$.
- LoRA+ is a setting of the optimizer. PEFT's `create_loraplus_optimizer` raises the rate of every one-dimensional
  parameter too, such as a head's bias; here it is that of $B$ alone, as in the paper.
- With PiSSA the base changes: switching the adapter off does not give the pretrained model back.
- The paper draws $A$ from a normal distribution; PEFT uses Kaiming-uniform, and
  `init_lora_weights="gaussian"` is the paper's.
- PEFT ignores a misspelt name in `target_modules` as long as another one matches. Here every name has to
  match.
- PEFT keeps adapter weights in float32 beside a bfloat16 base. Here they compute in bfloat16 too, and the
  optimizer keeps a float32 copy, which is what is saved.
""",
)

method_page("lora", first_model="smollm2-135m", words=WORDS)
