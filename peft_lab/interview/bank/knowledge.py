"""Questions on new knowledge and languages, and on what to do instead of tuning: retrieval, prompts, hypernetworks."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import elsewhere as calc
from peft_lab.interview.question import (
    Challenge,
    Question,
    causal,
    gated,
    give_way,
    hold,
    separate_attention,
    then,
)
from peft_lab.models.shapes import ModelShape

MODEL = "llama-3.1-8b"
ask = partial(Question, topic="choosing", model=None)


def gated_causal(shape: ModelShape) -> bool:
    return causal(shape) and gated(shape)


QUESTIONS = (
    ask(
        id="choose-new-facts", level="hard", kind="free",
        question="'We have 3,000 product facts. Fine-tune the model so that it knows them.' What do you answer?",
        answer="That tuning is a poor way to teach facts. In a controlled study models learnt examples with new "
        "facts more slowly than those that agree with what they know, and once learnt, such examples raised the "
        "tendency to make things up, linearly. Retrieval did better than unsupervised tuning for knowledge in "
        "comparisons, and facts change. So: put facts into a store, retrieve them, and tune, if at all, how the "
        "model uses retrieved text, the form of answers, and when to say that it does not know. If facts must be in "
        "the weights, train on many phrasings as text, with replay, accept a larger rank, stop early, and test for "
        "hallucination.",
        listen_for=(
            "Tuning is a poor way to teach facts, and new facts raise the tendency to make things up.",
            "Use retrieval first: facts in a store, retrieved when asked.",
            "Facts change, and a store is easy to update.",
            "Tune, if at all, for form, style, use of retrieved text, or saying that it does not know.",
            "Test for hallucination, not for recall alone.",
        ),
        wrong=(
            "'3,000 rows are enough'", "raises the epochs until the facts are recited",
            "'tuning on new facts reduces hallucination'",
        ),
        follow_ups=(
            then(
                "Why does stopping early help?",
                "Examples that introduce new facts are fitted last; before that the model has mostly learnt form "
                "and use of what it knows.",
                f"{src.NEW_KNOWLEDGE}, abstract",
            ),
            then(
                "What if latency forbids retrieval?",
                "Then a large rank on all maps and text in many phrasings, or full fine-tuning; count what is to be "
                "learnt against what the adapter holds.",
                f"{src.LORA_REGRET}, How much capacity is needed",
            ),
        ),
        sources=(f"{src.NEW_KNOWLEDGE}, abstract", src.RETRIEVAL),
    ),
    ask(
        id="choose-new-language", level="medium", kind="free",
        question="A model speaks your language badly. Plan the adaptation with LoRA: what is trained, on what, at "
        "which rates, and what do you watch?",
        answer="First the tokenizer: how many tokens does a word take? If three or four, cost and context suffer, "
        "and new tokens may pay; then embeddings and output layer must be trained, too. Continue pretraining on "
        "text in the language with a high rank on all maps, embeddings at a rate about a tenth of the adapter's "
        "(one published recipe has 5e-5 and 5e-6), with some text in the old languages mixed in. Then instructions "
        "in the language. LoRA learns less than full fine-tuning in this regime, so watch whether the curve bends "
        "away. Test the language by natives and by tasks, and the old languages as well.",
        listen_for=(
            "tokens per word",
            "embeddings with their own rate",
            "continued pretraining before instructions",
            "replay, and tests on old languages",
            "LoRA's limit in this regime",
        ),
        wrong=("translates the instruction data and stops there",),
        follow_ups=(
            then("What do new tokens cost?", to="choose-vocabulary"),
            then(
                "Why a lower rate for embeddings?",
                "They are full matrices and no low-rank product: the rate of full fine-tuning fits them, and most "
                "rows are seen rarely.",
                src.UNSLOTH,
                f"{src.LORA_REGRET}, Optimal learning rates for LoRA vs. FullFT",
            ),
        ),
        sources=(src.UNSLOTH, f"{src.LEARNS_LESS}, section 4.1", f"{src.CONTINUAL}, abstract"),
    ),
    ask(
        id="choose-vocabulary", level="medium", kind="numeric", calculate=calc.vocabulary, model=MODEL,
        fits=gated_causal, given={"new": 8_000},
        question="You add {{new}} tokens for another language to {{model}} (vocabulary {{vocab}}, hidden "
        "{{hidden}}). How many parameters are added?",
        answer="{{value}}, in {{sides}}. All of them start from nothing: initialise a new row as the mean of the "
        "pieces that it replaces, or training starts in a hole.",
        listen_for=("looks whether head and embedding are tied", "start of the new rows", "trained in full"),
        wrong=("the same for every model",),
        follow_ups=(
            then(
                "Why the mean of the old pieces?",
                "The model already reads those pieces as the word: their mean is near something that it "
                "understands, while a random row is noise to every layer.",
                src.ALGEBRA,
            ),
            then(
                "How do you train only the new rows?",
                "`trainable_token_indices`; for thousands of them check the memory, since the method gets less "
                "efficient the more tokens are trained.",
                f"{src.PEFT}, TrainableTokensConfig",
            ),
        ),
        sources=(f"{src.PEFT}, TrainableTokensConfig", src.ALGEBRA),
    ),
    ask(
        id="choose-hypernetwork-size", level="hard", kind="numeric", calculate=calc.hypernetwork, model=MODEL,
        fits=separate_attention, given={"width": 512, "r": 8},
        question="A hypernetwork of width {{width}} is to write LoRA of rank {{r}} for the query and value maps of "
        "{{model}} in one go. How many weights has a plain last layer that outputs all of its numbers?",
        answer="{{value}}, {{times}} times the model itself, to write {{written}} numbers. So such networks write "
        "layer by layer, with the layer's and the map's embedding as an input, and share the head.",
        listen_for=("output width is the adapter's size", "share the head over layers and maps", "rank-wise output"),
        wrong=("small, since the adapter is small",),
        follow_ups=(
            then(
                "What is the input?",
                "In Text-to-LoRA a description of the task, the kind of map and the index of the layer.",
                f"{src.TEXT_TO_LORA}, abstract",
            ),
            then("When would you want one?", to="choose-hypernetwork"),
        ),
        sources=(f"{src.TEXT_TO_LORA}, abstract", f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="choose-hypernetwork", level="medium", kind="free",
        question="Text-to-LoRA writes an adapter from a description of the task. Compare it with prompting, "
        "retrieval and training an adapter. When would you use it?",
        answer="It is a hypernetwork, trained on existing adapters or tasks, that outputs LoRA weights in one "
        "forward pass. Against training: seconds instead of hours and no data, but for an unseen task it "
        "generalises from similar ones and does not reach an adapter trained for it, and a bad description gives a "
        "bad adapter. Against a prompt: the same information, but paid once instead of in every request, and stored "
        "as weights; a prompt can be read and corrected. Against retrieval: it carries skills, not facts. Use it "
        "for many small related tasks, as a start for training, or where prompts are too long; otherwise first a "
        "good prompt.",
        listen_for=("amortised training", "zero-shot limits", "prompt as the baseline", "skills against facts"),
        wrong=("'it replaces training'",),
        follow_ups=(
            then(
                "How would you evaluate it fairly?",
                "Tasks unlike those it was trained on; baselines: the description as a prompt, a few examples, a "
                "multi-task adapter, and an adapter trained on the task.",
                f"{src.TEXT_TO_LORA}, abstract",
            ),
            then(
                "What does the abstract claim?",
                "Reconstructed adapters match the nine they were trained on, hundreds can be compressed, and unseen "
                "tasks work without training.",
                f"{src.TEXT_TO_LORA}, abstract",
            ),
        ),
        sources=(f"{src.TEXT_TO_LORA}, abstract",),
    ),
    ask(
        id="choose-prompt-or-tune", level="basic", kind="choice", correct=0,
        options=(
            "A better prompt, then retrieval, then tuning",
            "Tuning, then a prompt on top",
            "Retrieval and tuning together",
            "Whichever the team knows best",
        ),
        because=(
            "",
            "Without a prompt baseline nobody knows what tuning gained.",
            "Two changes at once cannot be told apart.",
            "Cost and failure modes differ by orders of magnitude.",
        ),
        question="A model answers in the wrong format, lacks facts of your domain, and is too wordy. In which order "
        "do you try remedies?",
        answer="A better prompt, then retrieval, then tuning: from what can be undone in a minute to what has to be "
        "trained, served and repeated. Format and tone are what tuning does well, facts are retrieval's.",
        listen_for=("cheapest reversible first", "which remedy for which fault", "each step is measured"),
        wrong=("tuning first, since the model is wrong",),
        follow_ups=(
            then(
                "When do you skip to tuning?",
                "When the prompt with examples is too long or too slow, or when format errors in one of a hundred "
                "answers are too many.",
                src.ALGEBRA,
            ),
            then(
                "Do tuning and retrieval go together?",
                "Often: tune on examples with retrieved text in the prompt, so that the model learns to use and to "
                "refuse it.",
                src.RETRIEVAL,
                src.ALGEBRA,
            ),
        ),
        sources=(src.RETRIEVAL, f"{src.NEW_KNOWLEDGE}, abstract"),
    ),
)  # fmt: skip


# ----------------------------------------
# Doubts about answers on knowledge, safety, other models and planning.


CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "choose-new-facts",
        "3,000 rows are enough for the model to know the products.",
        "To recite the rows, or to answer about the products?",
        "To recite. Examples with new facts are learnt more slowly, and once learnt they raise the tendency to make "
        "things up. Facts belong into a store; tune how they are used.",
        f"{src.NEW_KNOWLEDGE}, abstract", src.RETRIEVAL,
    ),
    hold(
        "choose-new-language",
        "For a new language I would look at the tokenizer first.",
        "Tokens are a detail: the rank decides what can be learnt.",
        "Three or four tokens a word cost context, time and money in every request for ever. New tokens need "
        "embeddings and output layer trained, at a lower rate than the adapter; that decides the plan.",
        src.UNSLOTH, f"{src.CONTINUAL}, abstract",
    ),
    hold(
        "choose-hypernetwork",
        "Text-to-LoRA does not replace training an adapter where there is data.",
        "It writes an adapter in one pass, and adapters are adapters.",
        "It was trained on other tasks and generalises from those like them. For an unseen task it does not reach an "
        "adapter that was trained for it.",
        f"{src.TEXT_TO_LORA}, abstract",
    ),
    give_way(
        "choose-embedding-lora",
        "For embeddings I would keep the language model's loss and take the last hidden state.",
        "Which part of that loss asks two texts that mean the same to be near each other?",
        "None. The loss is contrastive, over queries and passages with hard negatives; the output layer and its "
        "logits are not used at all.",
        f"{src.E5_MISTRAL}, section 4.2",
    ),
    give_way(
        "choose-vision-part",
        "`all-linear` adapts the language model of a vision-language model.",
        "Only that?",
        "Linear maps of both towers: names such as `q_proj` occur in each. Give full paths or a regular expression, "
        "and count by module.",
        f"{src.PEFT}, target_modules",
    ),
    hold(
        "choose-diffusion-lora",
        "I would not stop an image LoRA by its training loss.",
        "The loss is what is minimised. What else would you go by?",
        "It is the error of the predicted noise or velocity at random times, so it is noisy and says little. Pictures "
        "from fixed seeds show overfitting and whether the prompt is still followed.",
        src.ALGEBRA, "diffusers, examples/dreambooth/train_dreambooth_lora_flux.py",
    ),
    give_way(
        "safety-erosion",
        "Our 2,000 dialogues are harmless, so refusals stay as they were.",
        "What do they teach the model to do with every request?",
        "To answer it. Tuning on benign data was found to weaken refusals, less than harmful data but measurably. "
        "Measure before and after, and mix refusals in.",
        f"{src.SAFETY_COST}, abstract",
    ),
    hold(
        "safety-supply-chain",
        "An adapter from outside gets the checks of any foreign code and model.",
        "It is a few megabytes of numbers in safetensors. What could it do?",
        "Safetensors run no code, and the numbers still decide what the model says: refusals gone, triggers that wake "
        "it, and adapters that are harmless alone and not together.",
        src.COLLUDING, "safetensors documentation",
    ),
    hold(
        "safety-replay",
        "Replay holds only what it covers.",
        "A few percent of general data protect all old abilities.",
        "They hold the abilities that occur in them. What is in neither set is measured by nobody and may go; test it "
        "with every release.",
        f"{src.CONTINUAL}, abstract",
    ),
    give_way(
        "plan-first-day",
        "With one day only I would skip the baseline and start the full run at once.",
        "How will you know in the evening that it was worth it?",
        "I would not. The base with a good prompt takes an hour and is what the adapter has to beat; ten rows "
        "overfitted and fifty steps prove wiring, memory and rate before hours are spent.",
        f"{src.PEFT}, Troubleshooting", f"{src.LORA_REGRET}, Optimal learning rates for LoRA vs. FullFT",
    ),
    hold(
        "plan-utilisation",
        "With LoRA I count four operations per weight and token.",
        "Training is six. Everybody counts six.",
        "Two in the forward pass and two for the gradient of the inputs. The two for the gradient of the weights are "
        "not done where the weights are frozen: with six you claim work that never happened.",
        f"{src.SCALING}, section 2.1", src.ALGEBRA,
    ),
    hold(
        "plan-measured",
        "I would time fifty steps rather than compute the hours.",
        "Fifty steps are noise. The formula with the card's peak is exact.",
        "The formula needs the share of the peak that is reached, which is what nobody knows beforehand. Steps after "
        "the first few, on rows of the real lengths, contain it; evaluation and saving come on top.",
        src.ALGEBRA,
    ),
    give_way(
        "plan-worth-it",
        "From that number of requests on, the tuned model is cheaper.",
        "Is that all that it costs?",
        "No: labelling, evaluation, serving an adapter, and tuning again for each new base are left out, and a cached "
        "prefix costs less than its tokens. It is a lower bound.",
        src.ALGEBRA,
    ),
    give_way(
        "safety-mean-change",
        "On average nothing was lost, so it can be released.",
        "What did the worst of the four tests lose?",
        "More than the mean says, and that one asks for something that users may need. Report each test, not "
        "their mean.",
        src.ALGEBRA,
    ),
    hold(
        "preference-dpo-start",
        "{{value}} at the first step, for any pair and any β.",
        "That depends on how far the chosen answer is ahead of the rejected one.",
        "It is ahead in the policy as much as in the reference, because they are the same model: the ratios are one, "
        "their logarithms zero.",
        f"{src.DPO}, section 4",
    ),
    hold(
        "preference-reference",
        "The same model with its adapters switched off: no second copy is needed.",
        "The reference must not change, so it has to be a copy.",
        "It does not change: the base is frozen. Only if training started from an adapter is the base "
        "not the reference.",
        "TRL documentation, PEFT integration, DPO", f"{src.PEFT}, disable_adapter",
    ),
)  # fmt: skip
