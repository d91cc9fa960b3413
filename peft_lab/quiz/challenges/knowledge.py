"""Doubts about answers on knowledge, safety, other models and planning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold

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
