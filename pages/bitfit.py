"""BitFit: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
BitFit adds nothing. It trains the **biases** that the model already has, and freezes every matrix. Each layer
can only shift its activations, never turn them, and for small data sets that is surprisingly often enough.

It only works where there are biases. BERT and GPT-2 have them; Llama-type models were built without, so there is
nothing to train there. Nothing is added at inference: the trained biases replace the old ones.
""",
    formula=r"{h = W_0\,x + b} \qquad\allowbreak {b \text{ trained},}\ \allowbreak {W_0 \text{ frozen}}",
    differs=r"""
- It needs no library, only a rule for which parameters require a gradient. As in the paper these are all
  parameters called bias, including those of the norms, and the task head.
- The paper's smaller variant trains the query bias and the bias of the feed-forward part's first matrix only.
- The key's bias is trained like the others and changes nothing on BERT and GPT-2 types: softmax does not see it. *Look
  inside* shows it.
- Biases need a far larger learning rate than full fine-tuning.
- The frozen model's dropout is off while the biases train, as it would blur the effect of the few trained
  numbers. The paper does not say whether it was.
""",
)

method_page("bitfit", first_model="minilm-l6", words=WORDS)
