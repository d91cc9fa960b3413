"""QLoRA: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
QLoRA is LoRA on a base that is **stored in four bits**. The frozen weights are cut into blocks; each block
keeps one scale and, for every weight, the index of the nearest of sixteen values. NF4 places those values at
the quantiles of a normal distribution, because trained weights are close to normal. **Double quantisation**
stores the blocks' scales themselves in eight bits.

No gradient is needed for the four-bit weights, only *through* them: each matrix is dequantised to the compute
type for its multiplication, then discarded. That saves memory, not time.

The base can also be stored in eight bits, by LLM.int8(): one scale for each row, 255 even steps. The inputs are
rounded too, except the few above a threshold, and integers are multiplied; only the backward pass dequantises
the weights. This takes twice the bytes of four bits and makes a tenth of the error.
""",
    formula=r"h = \mathrm{dequant}\!\left(W_{\mathrm{stored}}\right) x + \frac{\alpha}{r}\,B\,A\,x",
    differs=r"""
- The paper adapts every linear map; PEFT's default for LoRA is q and v only. The default here is the paper's.
- transformers leaves the output layer and the embeddings in their own precision, as the paper does.
- The paper's paged optimizer moves optimizer states to host memory when the GPU runs out; it does not apply
  on a CPU.
""",
)

method_page("qlora", first_model="smollm2-135m", words=WORDS)
