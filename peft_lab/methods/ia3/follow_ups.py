"""What is asked after the questions on IA³."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.published import reserved, right
from peft_lab.quiz.working import both, plain, told

LLAMA, SMOL, MINILM = "llama-3.2-3b", "smollm2-135m", "minilm-l6"


def _as_small(case: Case) -> Answer:
    """Parameters of LoRA of rank 1 on queries and values, as a multiple of IA³'s."""
    shape = case.shape
    vectors = shape.num_layers * (2 * shape.kv_width + case.matrix("down").in_features)
    lora = shape.num_layers * (both(case.matrix("q")) + both(case.matrix("v")))
    ratio = lora / vectors
    return told(ratio, "times", many="as many" if plain(ratio) == "1" else f"{plain(ratio)} times as many")


def _where_it_holds(case: Case) -> Answer:
    """The catalogue's models on which IA³ at its defaults trains less than was claimed."""
    spec = get_method("ia3")
    holds = []
    for entry in catalogue().values():
        if any(problem.level == "error" for problem in spec.problems(entry.shape, {})):
            continue
        trained = spec.formula(entry.shape, spec.require(entry.shape, {})).trainable
        if 100 * trained / (entry.shape.total + trained) < case.number("claimed"):
            holds.append(entry.title)
    return told(len(holds), "", names=", ".join(holds))


def _one_entry(case: Case) -> Answer:
    return told(case.matrix("down").out_features)


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "ia3-vectors": (
        then(
            "Which rank would LoRA on queries and values need to be as small?",
            "Compare with rank one, the smallest there is: it has {{many}} parameters as the vectors here.",
            src.ALGEBRA, f"{src.LORA}, section 4.1", calculate=_as_small,
            opens=lab("ia3", model=LLAMA, tab="parameters"),
        ),
        then("And at a usual rank?", to="ia3-against-lora"),
    ),
    "ia3-start": (
        then(
            "What does weight decay towards zero do to such a vector?",
            "It pulls every entry from one towards zero, so it shrinks keys, values and activations even where the "
            "task asks for no change. Switch it off for these vectors, or decay towards one.",
            src.ALGEBRA,
        ),
        then(
            "And how far do the entries move from one, in practice?",
            "*Look inside* shows it by layer and by kind: which features are amplified and which are inhibited.",
            src.RUN, opens=lab("ia3", model=SMOL, tab="look inside"),
        ),
    ),
    "ia3-merge-why": (
        then(
            "What about a bias of the scaled map?",
            "The vector multiplies the whole output, bias included: $l \\odot (Wx + b)$. So merging scales the bias by "
            "the same entries. Where the vector acts on a map's input, the bias stays as it is.",
            src.ALGEBRA, src.PEFT,
        ),
        then("Exactly one entry differs from one: what changes in the key map?", to="ia3-merge-key"),
        then(
            "After merging LoRA in bfloat16 the outputs differ by a percent. Is that a bug?",
            to="serve-merge-low-precision",
        ),
    ),
    "ia3-share": (
        then(
            "On which models of the catalogue does the sentence hold, at PEFT's defaults?",
            "On {{value}}: {{names}}. What decides is the ratio of width to size, not the family's name.",
            src.ALGEBRA, calculate=_where_it_holds, opens=lab("fact_check", claim="ia3-share"),
        ),
        then("It trains far less than LoRA and yet peaked higher. How can that be?", to="ia3-peak"),
    ),
    "ia3-against-lora": (
        then("Which of them peaks higher in training, and why?", to="ia3-peak"),
        then(
            "And which was better in the published comparison?",
            f"LoRA: {right('lora-rank32')} right against {right('ia3-default')} of IA³ at its defaults. At a larger "
            f"rate "
            f"and with all attention maps IA³ came to {right('ia3-all-attn-5k-lr0.005')}: settings moved it by more "
            f"than "
            "the choice of method would.",
            src.BENCH,
        ),
    ),
    "ia3-merge-key": (
        then("And for the feed-forward vector?", to="ia3-merge-ff"),
        then(
            "How would you see afterwards that a model was tuned so?",
            "Divide the merged map by the base's, entry by entry: every row has one constant ratio. A low-rank change "
            "shows no such pattern, and its difference has low rank instead.",
            src.ALGEBRA,
        ),
    ),
    "ia3-optimizer": (
        then(
            "So what would you shrink next?",
            "Activations, by checkpointing, shorter rows or fewer at once; then the weights, by 4 bits. Gradients and "
            "moments are nothing any more.",
            f"{src.CHECKPOINTING}, section 4", f"{src.QLORA}, section 3",
            opens=lab("memory", model=LLAMA, method="ia3", checkpointing=True, tab="timeline"),
        ),
        then("What does checkpointing keep, in bytes?", to="memory-checkpoints"),
    ),
    "ia3-expressiveness": (
        then(
            "Which method would you move to when IA³ underfits?",
            "LoRA at a small rank on every linear map: it can mix features, can still be merged, and there is a knob "
            "for more. Before that raise IA³'s learning rate; that was worth many points in the published comparison.",
            src.BENCH, f"{src.LORA}, section 4.1",
        ),
        then(
            "Is IA³ a special case of LoRA, then?",
            "Of LoRA with a rank as large as the matrix, yes: any change can be written so. Of a small rank, no: "
            "(diag(l) − I)W has as many independent rows as entries of l that differ from one.",
            src.ALGEBRA,
        ),
        then("How do its vectors start, so that nothing changes at first?", to="ia3-start"),
    ),
    "ia3-merge-ff": (
        then(
            "What does PEFT do when a name is missing from `feedforward_modules`?",
            "It trains that module's vector on the output instead of the input, without a word: another length and "
            "another method. For the down map that is {{value}} numbers, as many as it has outputs.",
            src.PEFT, calculate=_one_entry, opens=lab("ia3", model=LLAMA, tab="modules"),
        ),
        then("And on models that fuse query, key and value?", to="ia3-fused"),
    ),
    "ia3-fused": (
        then(
            "How would you keep the queries unscaled?",
            "Fix the first third of the vector at one: mask its gradient, or set it back after every step. Or split "
            "the fused map into three. PEFT has no setting for it.",
            src.PEFT, src.ALGEBRA, opens=lab("ia3", model="gpt2", tab="modules"),
        ),
        then(
            "On which other architectures do the defaults differ from the paper?",
            "In PEFT's table OPT gets queries and keys, Gemma and Qwen get queries and values, Falcon and BLOOM their "
            "fused map. Read the module list instead of trusting the method's name.",
            src.PEFT,
        ),
        then("What else passes silently when names are wrong?", to="train-misspelt"),
    ),
    "ia3-peak": (
        then(
            "What would gradient checkpointing do to the comparison?",
            "Most activations are recomputed then, for both, and only one layer's are there at a time. The difference "
            "shrinks with them, and weights and logits decide. It costs one forward pass more.",
            f"{src.CHECKPOINTING}, section 4",
            opens=lab("memory", model=LLAMA, checkpointing=True, batch=4, seq=768, tab="timeline"),
        ),
        then(
            "How large was the difference?",
            f"{reserved('ia3-default')} reserved with IA³, {reserved('lora-rank32')} with LoRA of rank 32, on the same "
            "model, batch and card. Make the Lab simulate it, after you have guessed.",
            src.BENCH, opens=lab("misconceptions", belief="predict-ia3-peak"),
        ),
    ),
    "ia3-recipe": (
        then(
            "How would you test which part carries your own result?",
            "Take one part out at a time: the base, the extra losses, the pretrained vectors, with several seeds and "
            "the same tuning. And put the vectors alone on your own base, because that is what you would deploy.",
            f"{src.IA3}, section 3",
        ),
        then("You have 60 examples. Which methods do you compare, and how?", to="choose-few-shot"),
    ),
}  # fmt: skip
