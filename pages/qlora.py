"""QLoRA: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
QLoRA is LoRA on a base model **stored in four bits**. The frozen weights are cut into blocks. Each block stores
one scale and, for every weight, the index of the nearest of sixteen values. NF4 places these values at the
quantiles of a normal distribution, because trained weights are close to normal. **Double quantisation** also
stores the blocks' scales in eight bits.

The four-bit weights need no gradient, but gradients pass *through* them. For its
multiplication, each matrix is dequantised to the compute type; this copy is then discarded. Four bits save memory,
not time.

The base model can also be stored in eight bits, by LLM.int8(), with one scale per row and 255 even steps. The
inputs are rounded too, except the few above a threshold, so the forward pass multiplies integers. Only the backward
pass dequantises the weights. Eight bits take twice the bytes of four bits and make a tenth of the error.
""",
    formula=r"h = \mathrm{dequant}\!\left(W_{\mathrm{stored}}\right) x + \frac{\alpha}{r}\,B\,A\,x",
    differs=r"""
- The paper adapts every linear map; PEFT's default for LoRA is q and v only. The default here is the paper's.
- As in the paper, transformers keeps the output layer and the embeddings in their own precision.
- The paper's paged optimizer moves optimizer states to host memory when the GPU is full. It does not apply to a CPU.
""",
)

method_page("qlora", first_model="smollm2-135m", words=WORDS)
