"""BitFit: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
BitFit adds no parameters. It trains the **biases** that the model already has and freezes every matrix. Each layer
can only shift its activations, not rotate them, which is often enough for small data sets.

BitFit needs a model with biases. BERT and GPT-2 have them. Llama-type models have none, so there is nothing to
train. Inference costs nothing extra, as the trained biases replace the old ones.
""",
    formula=r"{h = W_0\,x + b} \qquad\allowbreak {b \text{ trained},}\ \allowbreak {W_0 \text{ frozen}}",
    differs=r"""
- BitFit needs no library, only a rule for which parameters require a gradient. As in the paper, it trains
  all parameters called bias, also those of the norms, and the task head.
- The paper's smaller variant trains only the query bias and the bias of the feed-forward part's first matrix.
- The key bias is trained like the others, but on BERT and GPT-2 types it changes nothing, because it
  cancels in the softmax. *Inside* shows this.
- Biases need a far larger learning rate than full fine-tuning.
- The frozen model's dropout is off during training, because dropout would hide the effect of the few trained
  numbers. The paper does not say whether dropout was on.
""",
)

method_page("bitfit", first_model="minilm-l6", words=WORDS)
