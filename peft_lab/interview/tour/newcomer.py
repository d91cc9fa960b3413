"""The newcomer's path: about half an hour from "where figures come from" to the first interview questions.

Numbers in the texts are computed (:mod:`peft_lab.interview.tour.path`); settings are as in the pages' addresses.
"""

from __future__ import annotations

from peft_lab.interview.tour.path import Stop, Tour

_SMOL = {"model": "smollm2-135m"}
_MINILM = {"model": "minilm-l6"}
_LLAMA = {"model": "llama-3.2-3b"}

NEWCOMER = Tour(
    "PEFT in half an hour",
    (
        Stop(
            page="home",
            title="Where figures come from",
            read="**Where figures come from**, at the end of the page: every figure carries one of four badges.",
            move="Nothing yet. Look through the gallery of methods: what each of them trains, and how little that is.",
            see="No method is cheapest everywhere: compare the models, and find the methods that cannot be used "
            "on all of them.",
            minutes=2,
        ),
        Stop(
            page="lora",
            title="A low-rank correction beside a frozen matrix",
            settings=_SMOL,
            read="The **Idea** tab: the formula, and why $B$ starts at zero.",
            move="*Rank r*, one step to the right.",
            see="The orange strips $A$ and $B$ grow thicker and the count goes from {count} to {count r=16}: it is "
            "proportional to the rank.",
            minutes=3,
            at="r",
        ),
        Stop(
            page="lora",
            title="Count it on Llama 3.2 3B, as in an interview",
            settings={**_LLAMA, "r": "16", "tab": "parameters"},
            read="The formula with this model's numbers. Its value maps have fewer outputs than its query maps "
            "(grouped-query attention), so they are cheaper.",
            move="Add `o_proj` to the target modules; then choose `all-linear` alone.",
            see="{count} parameters, then {count target_modules=q_proj,v_proj,o_proj}, then "
            "{count target_modules=all-linear}. No weights were needed for any of it.",
            minutes=3,
            at="target_modules",
            moves=("target_modules", "target_modules=all-linear"),
        ),
        Stop(
            page="lora",
            title="Watch it learn",
            settings={**_SMOL, "tab": "train"},
            read="What the task asks for: a sentence turned into JSON, which the base model cannot do yet.",
            move="Press **Train**. It takes a minute or two where nothing else runs.",
            see="The loss falls within a few steps. Afterwards your sentence is answered by the base model and by the "
            "tuned one, and the headline shows the measured score.",
            minutes=4,
            at="train",
        ),
        Stop(
            page="lora",
            title="What was learnt",
            settings={**_SMOL, "tab": "look inside"},
            read="ΔW of one matrix, from the run that you have just made.",
            move="Choose another *Adapted matrix*, in an early layer and in a late one.",
            see="Never more singular values than the rank. In the first step $B$ gets a gradient and $A$ gets none; "
            "merged and unmerged model answer alike.",
            minutes=3,
        ),
        Stop(
            page="memory",
            title="What a training step needs",
            settings=_LLAMA,
            read="The bars: grey is the model itself, the same for every method but QLoRA.",
            move="*Checkpointing* on, and off again. Then twice the *Tokens per row*.",
            see="Activations are the part that moves. IA³ trains far less than LoRA and still needs more memory.",
            minutes=3,
            at="checkpointing",
            moves=("checkpointing", "checkpointing", "seq"),
        ),
        Stop(
            page="qlora",
            title="The same correction on a 4-bit base",
            settings=_SMOL,
            read="The **Idea** tab: sixteen values, chosen for normally distributed weights.",
            move="*Double quantisation* off and on.",
            see="The frozen matrices are hatched in blue: they are stored in four bits. What is trained is LoRA as "
            "before, on all linear maps: {count} parameters.",
            minutes=2,
            at="bnb_4bit_use_double_quant",
            moves=("bnb_4bit_use_double_quant", "bnb_4bit_use_double_quant"),
        ),
        Stop(
            page="prefix",
            title="Trained and stored are two numbers",
            settings={**_SMOL, "tab": "parameters"},
            read="Keys and values that belong to no token, in front of every layer's own.",
            move="*Projection* on.",
            see="{count} trained parameters become {count prefix_projection=true}, and the stored adapter stays as "
            "it was: the projection exists in training only.",
            minutes=2,
            at="prefix_projection",
        ),
        Stop(
            page="adapters",
            title="What cannot be merged",
            settings=_MINILM,
            read="The **Idea** tab: down, a nonlinearity, up, added to what was there.",
            move="*Placement* from houlsby to pfeiffer.",
            see="One hourglass instead of two, {count placement=pfeiffer} parameters instead of {count}. "
            "Because of the nonlinearity it cannot be merged into a weight matrix.",
            minutes=2,
            at="placement",
        ),
        Stop(
            page="bitfit",
            title="A method with nothing to train",
            settings=_SMOL,
            read="The message at *Model*: this kind of model has no biases.",
            move="*Model* to all-MiniLM-L6-v2.",
            see="Now there are biases, and {count model=minilm-l6} of them are trained. Methods depend on the "
            "architecture, not only on the task.",
            minutes=1,
            at="model",
        ),
        Stop(
            page="misconceptions",
            title="Fewer parameters, less memory?",
            settings={"belief": "predict-ia3-peak"},
            read="The belief and the question. You have met the answer on the Memory page.",
            move="Commit to a guess and let the experiment run.",
            see="The chart that settles it, and why. More of these wait in the list above it.",
            minutes=2,
        ),
        Stop(
            page="plan",
            title="A real job",
            read="The question at the top: which model, how much data, which GPUs.",
            move="*GPU* to another one.",
            see="Every way to train it that fits, with its memory, hours and price; and a script that does it.",
            minutes=1,
        ),
        Stop(
            page="choose",
            title="Which method when",
            read="The tree: each answer takes one branch.",
            move="Change an answer.",
            see="The path through the tree moves, and the recommendation with it; below it is what speaks for it.",
            minutes=1,
        ),
        Stop(
            page="fact_check",
            title="What people say about PEFT",
            read="The claim that stands first.",
            move="Decide whether it is right before you look at the verdict.",
            see="The figure that settles it, how it was found, and on which models it holds.",
            minutes=2,
        ),
        Stop(
            page="practice",
            title="Your first interview questions",
            settings={"topic": "lora", "level": "basic"},
            read="The question. Answer before you look.",
            move="Answer three cards and rate each by how well you knew it.",
            see="Each button says when the card comes back. Some are due tomorrow: that is how you remember them.",
            minutes=4,
        ),
    ),
)
