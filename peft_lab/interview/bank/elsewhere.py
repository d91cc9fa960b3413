"""Questions on adapters beyond chat: embeddings, rerankers, vision and diffusion."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import elsewhere as calc
from peft_lab.interview.question import Question, then

DREAMBOOTH = "diffusers, examples/dreambooth"
ask = partial(Question, topic="choosing", model=None)

QUESTIONS = (
    ask(
        id="choose-embedding-negatives", level="medium", kind="numeric", calculate=calc.negatives,
        given={"rows": 256, "hard": 1},
        question="Contrastive training of an embedding model: {{rows}} queries in a batch, each with its passage "
        "and {{hard}} hard negative, all shared within the batch. How many wrong passages is each query told from?",
        answer="{{value}}. The batch is part of the task here: a larger one is a harder test, so the usual advice "
        "of small batches for LoRA does not carry over.",
        listen_for=(
            "in-batch negatives, hard ones of all rows",
            "why embeddings want large batches",
            "memory of two sides",
        ),
        wrong=("one, its own hard negative",),
        follow_ups=(
            then(
                "The batch does not fit. What helps, besides a smaller one?",
                "Caching embeddings in chunks and computing gradients in a second pass (GradCache), gathering over "
                "devices, or more hard negatives instead of more rows. Plain accumulation does not add negatives.",
                f"{src.SENTENCE_TRANSFORMERS}",
                src.ALGEBRA,
            ),
            then(
                "What did a known recipe with LoRA use?",
                "E5-Mistral: rank 16, batches of 2,048, a rate of 1e-4.",
                f"{src.E5_MISTRAL}, section 4.2",
            ),
        ),
        sources=(f"{src.E5_MISTRAL}, section 4.2", src.SENTENCE_TRANSFORMERS),
    ),
    ask(
        id="choose-embedding-index", level="basic", kind="numeric", calculate=calc.reembedding,
        given={"millions": 20, "width": 1024},
        question="A search index holds {{millions}} million vectors of {{width}} float32 numbers. You retrain the "
        "embedding model's LoRA. How many bytes of vectors have to be computed and written anew?",
        answer="{{value}}: all of them. A new adapter is a new space; old and new vectors must not be compared.",
        listen_for=(
            "adapter version belongs to the index",
            "cost of re-embedding",
            "one adapter for both sides, or one for each",
        ),
        wrong=("none, since only the adapter changed",),
        follow_ups=(
            then(
                "Can the passages stay if only the query side gets an adapter?",
                "Yes, if it is trained against the frozen passage side: then the index stays, and the query's "
                "adapter learns to hit it.",
                f"{src.JINA3}, abstract",
                src.ALGEBRA,
            ),
            then(
                "How do several tasks share one base?",
                "jina-embeddings-v3 has an adapter for each task: retrieval queries, retrieval passages, "
                "clustering, classification, text matching.",
                f"{src.JINA3}, abstract",
            ),
        ),
        sources=(src.ALGEBRA, f"{src.JINA3}, abstract"),
    ),
    ask(
        id="choose-reranker-cost", level="medium", kind="numeric", calculate=calc.reranking,
        given={"candidates": 100, "query": 20, "passage": 180},
        question="A reranker reads query and passage together for {{candidates}} candidates ({{query}} and "
        "{{passage}} tokens). How many times more tokens is that than embedding the query?",
        answer="{{value}}: {{tokens}} tokens for each query. That is why it only sees what a cheap retriever has "
        "left.",
        listen_for=("pair by pair", "quality for latency, so few candidates"),
        wrong=("as many times as there are candidates",),
        follow_ups=(
            then(
                "Can retriever and reranker share a base?",
                "Yes: RepLLaMA and RankLLaMA are both LLaMA with LoRA, one as a bi-encoder, one scoring pairs. On "
                "one server the base is loaded once, with two adapters.",
                f"{src.RANK_LLAMA}, abstract",
                src.ALGEBRA,
            ),
            then(
                "What has to be saved besides the adapter?",
                "The scoring head: it is new, and random after loading unless it is saved with the adapter.",
                f"{src.PEFT}, Troubleshooting, Randomly initialized layers",
            ),
        ),
        sources=(f"{src.RANK_LLAMA}, abstract", src.ALGEBRA),
    ),
    ask(
        id="choose-embedding-lora", level="hard", kind="free",
        question="You turn a causal language model into an embedding model with LoRA. What changes against tuning "
        "it for chat, in model, loss, data and evaluation?",
        answer="Model: there is no next token; a text's vector is the last token's state (an end token is appended, "
        "and padding must not stand there) or a mean, and the output layer is unused, so no logits. Loss: "
        "contrastive, over a batch of queries and passages, with a temperature; the rate can be that of LoRA "
        "otherwise, the batch is large. Data: pairs with hard negatives that are checked for false ones, and an "
        "instruction in front of queries that must be the same when searching. Evaluation: retrieval on a held-out "
        "collection, not the loss. When shipping, the adapter's version belongs to the index.",
        listen_for=(
            "pooling and padding side",
            "no logits, large batches",
            "hard and false negatives",
            "index depends on the adapter",
        ),
        wrong=("trains next-token loss on pairs", "mean over padding"),
        follow_ups=(
            then(
                "Which maps would you adapt?",
                "All linear ones, as for chat; E5-Mistral used rank 16. Test whether attention without its causal "
                "mask helps: LoRA can adapt to it.",
                f"{src.E5_MISTRAL}, section 4.2",
                src.ALGEBRA,
            ),
            then(
                "Why is memory different?",
                "Logits are gone, but two or three texts per row are in memory at once, in large batches: "
                "activations decide.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.E5_MISTRAL}, section 4.2", f"{src.RANK_LLAMA}, abstract", src.SENTENCE_TRANSFORMERS),
    ),
    ask(
        id="choose-vision-tokens", level="basic", kind="numeric", calculate=calc.patches,
        given={"side": 384, "patch": 16},
        question="A vision transformer cuts a square image of {{side}} pixels a side into patches of {{patch}}. How "
        "many tokens does it hand on?",
        answer="{{value}}. Twice the side length gives {{double}} times as many, and in a vision-language model all "
        "of them take room in the language model's context and activations.",
        listen_for=("square in the side length", "resolution is the memory knob", "image tokens carry no loss"),
        wrong=("linear in the side length",),
        follow_ups=(
            then("Which part of a vision-language model gets LoRA?", to="choose-vision-part"),
            then(
                "Do image tokens count in the loss?",
                "No: they are inputs without a label. They cost time and memory like a long prompt.",
                src.ALGEBRA,
            ),
        ),
        sources=("Dosovitskiy et al. 2020, An Image is Worth 16x16 Words, arXiv:2010.11929, abstract",),
    ),
    ask(
        id="choose-vision-part", level="medium", kind="free",
        question="A vision-language model has to read your company's forms. LoRA on the vision tower, the "
        "projector, the language model, or all? How do you decide, and which trap waits in `all-linear`?",
        answer="Ask what is missing. If it sees the text but answers in the wrong form, adapt the language model "
        "only. If fonts, layouts or image types are unlike the training images, the vision tower needs it, with a "
        "small rate; the projector is small and is often trained whole. Test by error type on fifty images: reading "
        "errors against answering errors. The trap: `all-linear` and short target names match maps in both towers, "
        "because names like `q_proj` occur in each, so you train more than you think, or what the server cannot "
        "load. Give full paths or a regular expression, and count by module.",
        listen_for=(
            "diagnoses errors first",
            "names match in both towers",
            "server support for adapters on the tower",
            "resolution before adapters",
        ),
        wrong=("all of it, always",),
        follow_ups=(
            then(
                "How does a server handle such adapters?",
                "vLLM can have a default adapter for each modality, and applies one adapter to a prompt; which "
                "modules may be adapted depends on the model's support.",
                f"{src.VLLM}, Default LoRA Models For Multimodal Models",
            ),
            then(
                "What would you try before any training?",
                "A higher resolution or tiles: if the text is unreadable at the tower's input, no adapter will read "
                "it.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, target_modules", f"{src.VLLM}, Default LoRA Models For Multimodal Models"),
    ),
    ask(
        id="choose-diffusion-scale", level="basic", kind="numeric", calculate=calc.diffusion_scale,
        given={"alpha": 8, "r": 4, "weight": 0.7},
        question="A diffusion LoRA has α = {{alpha}} and r = {{r}}; the user sets its weight to {{weight}} when "
        "drawing. What is BA multiplied by?",
        answer="By {{value}}: the weight comes on top of α/r. Files of other trainers may carry another α, so the "
        "same weight can look weaker or stronger.",
        listen_for=("two factors", "a knob at inference that chat adapters rarely use"),
        wrong=("the weight alone",),
        follow_ups=(
            then(
                "Two style adapters at 0.7 each give mush. Why?",
                "Their changes add in the same maps and may interfere; lower the weights, or merge them with TIES "
                "or DARE, as PEFT's guide does with three styles.",
                f"{src.PEFT}, Model merging",
            ),
            then(
                "What differs in the start of such adapters?",
                "Diffusers takes a Gaussian start for A (`init_lora_weights='gaussian'`); B is zero all the same.",
                f"{src.PEFT}, LoRA, Initialization",
            ),
        ),
        sources=(f"{src.LORA}, section 4.1", f"{src.PEFT}, LoRA, Initialization"),
    ),
    ask(
        id="choose-diffusion-lora", level="medium", kind="free",
        question="LoRA is the common currency of image models. What is adapted there, how does it differ from "
        "language, and why are so many adapters shared?",
        answer="For a subject or a style from a few dozen images, the attention maps of the denoising network. That "
        "used to be a U-Net, often trained with its text encoder; in FLUX or Qwen-Image it is a transformer, where the "
        "feed-forward maps are often adapted too and the large text encoder stays as it is. The loss is the error of "
        "the predicted noise, or of the velocity in flow matching, at random times, so it is noisy and says little: "
        "judge by images from fixed seeds and by how much of the prompt is still followed. "
        "Overfitting shows as copies of the training images and as styles that cannot be switched off. Files are "
        "small, bases are few, scales are set at drawing, and adapters are added freely, which explains the "
        "sharing. OFT comes from there, too.",
        listen_for=(
            "denoiser's attention maps, and in transformers the feed-forward part",
            "loss is no guide",
            "fixed seeds and prompts for evaluation",
            "composition and its interference",
        ),
        wrong=("stops by the training loss",),
        follow_ups=(
            then(
                "What would you hold out?",
                "Prompts that name the subject in new settings, and prompts without it: the first test learning, "
                "the second what was lost.",
                src.ALGEBRA,
            ),
            then("Why OFT here?", to="choose-oft-why"),
        ),
        sources=(
            f"{DREAMBOOTH}/train_dreambooth_lora_flux.py and train_dreambooth_lora_qwen_image.py",
            f"{src.PEFT}, Model merging",
            f"{src.PEFT}, OFTConfig",
        ),
    ),
)  # fmt: skip
