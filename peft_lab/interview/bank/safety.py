"""Questions on what a run takes away: forgetting, replay, eroded safety, and adapters of unknown origin."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import safety as calc
from peft_lab.interview.question import Question, then

ask = partial(Question, topic="safety", model=None)

QUESTIONS = (
    ask(
        id="safety-mean-change", level="basic", kind="numeric", calculate=calc.mean_change,
        given={"before": (70, 62, 55, 81), "after": (69, 60, 46, 81)},
        question="Four general tests score {{before}} percent before tuning and {{after}} after. By how many points "
        "did they change on average?",
        answer="{{value}}: the mean hides that one test fell by {{worst}}. Report each of them, and look at what "
        "that test asks.",
        listen_for=(
            "measures old abilities at all",
            "the worst next to the mean",
            "same prompts and template on both sides",
        ),
        wrong=("only the new task's score is reported",),
        follow_ups=(
            then(
                "Which tests would you take?",
                "Some that are near the task (where the adapter pulls), some far (general knowledge, another "
                "language, following instructions), refusals, and a loss on general text, which moves first.",
                f"{src.LEARNS_LESS}, section 4.2",
            ),
            then("Is a fall of a point real?", to="safety-rows-needed"),
        ),
        sources=(f"{src.LEARNS_LESS}, section 4.2", src.ALGEBRA),
    ),
    ask(
        id="safety-rows-needed", level="hard", kind="numeric", calculate=calc.rows_needed,
        given={"accuracy": 0.7, "drop": 0.02},
        question="A test has an accuracy of {{accuracy}} before tuning. How many rows does it need so that a drop "
        "of {{drop}} is about as large as the 95% half-width of the difference, if the two scores were independent?",
        answer="{{value}}. The same rows before and after need fewer, since most answers agree: count only the rows "
        "that flipped.",
        listen_for=(
            "variance of a difference is twice that of a score",
            "the square: half the drop, four times the rows",
            "paired rows are better",
        ),
        wrong=("a few hundred, as always",),
        follow_ups=(
            then(
                "How does the paired test work?",
                "Among the rows that changed, count those that got worse against those that got better: under no "
                "change they are a coin's tosses.",
                src.ALGEBRA,
            ),
            then(
                "With 300 rows, which drop can you see at all?",
                "Put the rows into the formula: about 7 points at this accuracy with independent samples. Say so "
                "next to 'no forgetting'.",
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, "vrcacademy.com, sample size to estimate the difference of two proportions"),
    ),
    ask(
        id="safety-replay-tokens", level="medium", kind="numeric", calculate=calc.replayed,
        given={"corpus": 10_000_000, "percent": 5},
        question="Continued pretraining on {{corpus}} tokens of new text, mixed so that {{percent}}% of what is "
        "read is general text. How many tokens of general text is that?",
        answer="{{value}}: the run gets {{more}} percent longer, a cheap insurance.",
        listen_for=("share of the mixture", "resembles what the base was trained on"),
        wrong=("the percentage of the new text",),
        follow_ups=(
            then(
                "Where do you get the old data of an open model?",
                "A public corpus of the same kind; for a chat model general instructions, or the base's own answers "
                "to general prompts.",
                f"{src.CONTINUAL}, abstract",
                src.ALGEBRA,
            ),
            then(
                "What else does continuing a pretraining need?",
                "The rate is warmed up and decayed again: with replay that matched training anew on all data in the "
                "study.",
                f"{src.CONTINUAL}, abstract",
            ),
        ),
        sources=(f"{src.CONTINUAL}, abstract", src.ALGEBRA),
    ),
    ask(
        id="safety-replay", level="medium", kind="free",
        question="Replay, a low rate, LoRA instead of full fine-tuning, switching the adapter off: rank these "
        "against forgetting for a support bot, and say what each cannot do.",
        answer="Switching the adapter off gives the base back exactly, so route general requests past it if you can "
        "tell them apart: it does nothing within an answer that uses the adapter. LoRA forgets less on average and "
        "learns less as well; a low rate and fewer epochs do the same by changing less. Replay works within the "
        "answer: a few percent of general data hold what they cover and nothing else. For a bot: adapter for its "
        "requests only, replay of general instructions and refusals, an early stop by both curves, and a test on "
        "old abilities with every release.",
        listen_for=(
            "what acts within the adapted answer",
            "less change, less learnt",
            "replay covers what is replayed",
            "measures both curves",
        ),
        wrong=("'the base is frozen, so nothing is forgotten'",),
        follow_ups=(
            then("Where does LoRA's forgetting sit?", to="lora-intruders"),
            then(
                "What happens when five adapters are trained in a row on one merged model?",
                "Changes add up, and so do intruder dimensions; LoRA models that accumulate them did worse in "
                "sequential training.",
                f"{src.INTRUDERS}, abstract",
            ),
        ),
        sources=(f"{src.LEARNS_LESS}, section 4.2", f"{src.CONTINUAL}, abstract", f"{src.INTRUDERS}, abstract"),
    ),
    ask(
        id="safety-erosion", level="medium", kind="free",
        question="You tune an aligned chat model with LoRA on 2,000 harmless support dialogues. Does its safety "
        "training survive? What do you do?",
        answer="Not necessarily. Fine-tuning on benign, commonly used data was found to weaken refusals, less than "
        "harmful data does, but measurably; ten harmful examples undid them in one hosted model. The data teach to "
        "answer everything, and nothing holds the refusals in place. Measure refusal on harmful and over-refusal on "
        "harmless prompts before and after, mix refusals and safe answers into the data, keep the system prompt "
        "that was trained with, use a small rate and few steps (later work traces much of the loss to poor "
        "optimisation choices), filter inputs and outputs outside the model, and test again with each new adapter.",
        listen_for=(
            "Not necessarily: harmless data erode refusals, too, less than harmful data but measurably.",
            "Measure refusal on harmful and over-refusal on harmless prompts, before and after.",
            "Mix refusals or safe answers into the data, keep the system prompt, use a small rate and few steps.",
            "Filter inputs and outputs outside the model.",
        ),
        wrong=(
            "'LoRA is too small to change that'", "'only harmful data do that'",
            "'safety lives in the frozen weights'",
        ),
        follow_ups=(
            then(
                "How cheap is doing it on purpose?",
                "Reported: QLoRA with less than 200 dollars and one GPU took Llama 2-Chat 70B to about 1% refusals, "
                "abilities kept. So published weights cannot be protected by alignment alone.",
                f"{src.SAFETY_UNDONE}, abstract",
            ),
            then("Refusals fell from 98 to 91%. Is that much?", to="safety-refusals"),
        ),
        sources=(
            f"{src.SAFETY_COST}, abstract",
            f"{src.SAFETY_UNDONE}, abstract",
            f"{src.SAFETY_TUNED}, abstract",
        ),
    ),
    ask(
        id="safety-refusals", level="basic", kind="numeric", calculate=calc.answered,
        given={"before": 98, "after": 91},
        question="A model refused {{before}}% of harmful test requests before tuning and {{after}}% after. How many "
        "times more of them does it answer now?",
        answer="{{value}}. 'Only {{points}} points' is the wrong way to say it.",
        listen_for=("looks at what gets through", "interval: how many prompts is that"),
        wrong=("about the same",),
        follow_ups=(
            then(
                "How sure are you with 100 prompts?",
                "Two answered before, nine after: few enough that the factor could be much smaller or larger. Test "
                "with a thousand, and look at the answers themselves.",
                src.ALGEBRA,
            ),
            then(
                "What if refusals rise instead?",
                "Look at harmless prompts that sound harmful: a model that refuses more is not safer if it refuses "
                "what it should answer.",
                f"{src.SAFETY_COST}, abstract",
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, f"{src.SAFETY_COST}, abstract"),
    ),
    ask(
        id="safety-pairs", level="medium", kind="numeric", calculate=calc.pairs, given={"count": 40},
        question="Your platform lets users activate one or two of {{count}} reviewed adapters at once. How many "
        "combinations would a safety test have to run?",
        answer="{{value}}. It matters: adapters that look harmless one by one were shown to break alignment "
        "together, so a review of each is not a review of the platform.",
        listen_for=("composition is a new model", "limits what may be combined", "tests what is offered"),
        wrong=("one test for each adapter",),
        follow_ups=(
            then(
                "You cannot run all of them. What then?",
                "Allow only tested pairs, sample the rest, watch outputs at run time, and treat adapters of unknown "
                "origin as not combinable.",
                src.COLLUDING,
                src.ALGEBRA,
            ),
            then(
                "How can each be harmless alone?",
                "Products and sums of changes are made so that each part is small or inactive and only their sum "
                "has the effect.",
                src.COLLUDING,
            ),
        ),
        sources=(src.COLLUDING, src.ALGEBRA),
    ),
    ask(
        id="safety-backdoor", level="medium", kind="choice", correct=3,
        options=("A clean test set with high accuracy", "A small file", "safetensors as the format", "None of these"),
        because=(
            "A backdoor is built to leave clean accuracy as it is.",
            "A backdoor needs few parameters.",
            "It keeps code out of the file, not bad behaviour out of the weights.",
            "",
        ),
        question="You download an adapter. Which of these shows that it has no backdoor?",
        answer="None of these: a trigger that you do not know is not in your test set, and clean accuracy stays. "
        "Provenance and your own training are what protects; detectors on weights or with probes lower the risk.",
        listen_for=("trigger-gated behaviour", "what safetensors does and does not do", "provenance"),
        wrong=("good scores",),
        follow_ups=(
            then(
                "What does safetensors protect against?",
                "Code that runs while a pickled file is loaded. The numbers may still be anything.",
                "safetensors documentation",
            ),
            then(
                "What do detectors look at?",
                "Reported are statistics of the weights, such as how concentrated the singular values of ΔW are or how "
                "large it is in each module, and of outputs over a battery of probes. Neither needs the trigger; what "
                "was tested are the backdoors that the authors made.",
                f"{src.BACKDOORS}, abstract",
                "arXiv:2605.30189, abstract (as summarised by papers.dast.ai, second-hand)",
            ),
        ),
        sources=(
            "OWASP LLM03, vulnerable LoRA adapters (as presented at evlbot.xyz, second-hand)",
            "safetensors documentation",
        ),
    ),
    ask(
        id="safety-supply-chain", level="hard", kind="free",
        question="Your company wants to use community adapters. Write the checklist, from download to production.",
        answer="Origin: who published it, is the revision pinned and hashed, is the licence fit, on which base and "
        "data. File: safetensors only, no pickle, no remote code; read config and shapes before loading; refuse "
        "extra tensors (heads, embeddings, biases) that the config does not explain. Base: exactly the named "
        "revision. Behaviour: task tests, refusals, probes with odd triggers, comparison with the base on general "
        "prompts, norms by layer against those of adapters that you trained. Combination: only what was tested "
        "together. Running: least rights, since the model's outputs are untrusted; output filters, logs, and a "
        "switch that turns the adapter off. Dynamic loading at run time lets users manage models, as vLLM's "
        "documentation warns: keep it off for outsiders.",
        listen_for=(
            "pin and hash",
            "format, config, shapes",
            "behaviour tests cannot prove absence",
            "run-time switch and least rights",
        ),
        wrong=("'it is only a few megabytes of numbers'", "trusts the number of downloads"),
        follow_ups=(
            then(
                "What would you rather do?",
                "Train your own on data that you know: a small adapter costs hours. Use theirs as a baseline.",
                src.ALGEBRA,
            ),
            then(
                "Why is loading at run time risky?",
                "Whoever reaches the endpoint can put weights into your server: the documentation calls it risky in "
                "production.",
                f"{src.VLLM}, Dynamically serving LoRA Adapters",
            ),
        ),
        sources=(f"{src.VLLM}, Dynamically serving LoRA Adapters", src.COLLUDING, "safetensors documentation"),
    ),
)  # fmt: skip
