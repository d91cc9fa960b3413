"""Adapters: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
Adapters are the oldest of these methods. Each layer gets a small **bottleneck network**. It projects the hidden state
down, applies a nonlinearity, projects the result up and adds it to its input. The network starts close
to the identity, so the model is almost unchanged at first.

Because of the nonlinearity, an adapter cannot be merged into the weights, and each token costs a little extra
work. In return, many tasks can share one base model, each with its own small file.
""",
    formula=r"{h \leftarrow h + W_{up}\,\sigma\!\left(W_{down}\,h\right)} \qquad\allowbreak "
    r"{W_{down} \in \mathbb{R}^{m \times d}}",
    differs=r"""
- PEFT has no bottleneck adapter. `AdaptionPromptConfig` is often taken for one, but is LLaMA-Adapter with gated
  prompts.
- The `adapters` library has one, but needs an older transformers. The modules here are PEFT Lab's own.
- The paper also trains the layer norms; here they stay frozen, as in the adapters library. Each adapter sits before the
  sublayer's dropout, which makes no difference after training.
- Each adapter of a classifier has its own head, even if several adapters share one base model.
- **Houlsby**: two adapters per layer, after attention and after the feed-forward part. **Pfeiffer**: one, after the
  feed-forward part. **Parallel**: one beside the feed-forward part, scaled.
- Three more placements have the names of the `adapters` library and compute as that library does. **seq_bn**, its
  Pfeiffer, reads the stream *after* the residual and the next layer norm; that norm is applied again to the output
  of **seq_bn**. `pfeiffer` reads the feed-forward output before both. **par_bn**, its parallel, reads the input before
  a norm, and `parallel` reads it after the norm. **double_seq_bn**, its Houlsby, leaves out cross-attention. Each pair
  has the same parameters, except for cross-attention.
""",
)

method_page("adapters", first_model="minilm-l6", words=WORDS)
