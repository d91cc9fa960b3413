"""Adapters: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

WORDS = Words(
    idea=r"""
The oldest of the family: a small **bottleneck network** is put into each layer. It projects the hidden state
down, applies a nonlinearity, projects up again and adds the result to what came in. It starts as a
near-identity, so that the model is undisturbed at first.

Because of the nonlinearity an adapter cannot be merged into the weights: it stays as a little extra work per
token. In return it is a plug: many tasks can share one base, each with its own small file.
""",
    formula=r"{h \leftarrow h + W_{up}\,\sigma\!\left(W_{down}\,h\right)} \qquad\allowbreak "
    r"{W_{down} \in \mathbb{R}^{m \times d}}",
    differs=r"""
- PEFT has no bottleneck adapter. `AdaptionPromptConfig`, often named in this place, is LLaMA-Adapter: gated
  prompts.
- The `adapters` library has one, but needs an older transformers. The modules here are PEFT Lab's own.
- The paper trains new layer norms too; here they stay frozen, as in the adapters library. Each adapter sits before the
  sublayer's dropout, which makes no difference once trained.
- A classifier's head belongs to its adapter: of several on one base, each answers through its own.
- **Houlsby**: two per layer, after attention and after the feed-forward part. **Pfeiffer**: one, after the
  feed-forward part. **Parallel**: beside it, scaled.
- The `adapters` library's own, by its names, answer as it does: **seq_bn**, its Pfeiffer, reads what comes *after* the
  residual and the layer norm that follows there, and the norm is applied again behind it; `pfeiffer` reads the
  feed-forward output before both. **par_bn**, its parallel, reads the stream before a norm, `parallel` after it.
  **double_seq_bn**, its Houlsby, leaves cross-attention out. The parameters of each pair are the same, but for
  cross-attention's.
""",
)

method_page("adapters", first_model="minilm-l6", words=WORDS)
