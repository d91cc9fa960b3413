"""Questions on runs that fail: losses of zero, NaN, flat curves, adapters without effect, files without weights."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import debugging as calc
from peft_lab.interview.question import Question, gated, lab, then

TROUBLE = f"{src.PEFT}, Troubleshooting"
EMPTY = "huggingface/accelerate issue 3508, huggingface/trl issue 4416 and huggingface/peft issue 2450"
ask = partial(Question, topic="debugging", model=None)

QUESTIONS = (
    ask(
        id="debug-masked-loss", level="medium", kind="choice", correct=2,
        options=("0", "The logarithm of the vocabulary", "NaN", "It raises an error"),
        because=(
            "It is a mean over no tokens, not a sum.",
            "That is a uniform guess on tokens that count; here none counts.",
            "",
            "The ignore index is legal for every position.",
        ),
        question="Truncation cut every answer off, so all labels of a batch are the ignore index. What does "
        "PyTorch's cross-entropy return with its default reduction?",
        answer="NaN: the mean over no tokens is zero divided by zero. A framework that sums and divides by a count "
        "of its own may show 0 instead; both mean that nothing was there to learn.",
        listen_for=("mean over nothing", "loss zero and NaN can be the same fault", "counts labelled tokens"),
        wrong=("0, since nothing is wrong",),
        follow_ups=(
            then(
                "How do you find such rows before training?",
                "Count labelled tokens of each row after truncation and collation, and refuse rows with none.",
                "PyTorch documentation, torch.nn.CrossEntropyLoss, ignore_index",
                src.RUN,
            ),
            then(
                "Only some batches are NaN. What then?",
                "The same for those batches: one row per device with its answer cut off. A single NaN gradient "
                "poisons the weights, so the loss stays NaN from there on.",
                src.ALGEBRA,
            ),
        ),
        sources=("PyTorch documentation, torch.nn.CrossEntropyLoss, ignore_index", src.RUN),
    ),
    ask(
        id="debug-first-loss", level="basic", kind="numeric", calculate=calc.first_loss, given={"classes": 5},
        question="A classifier with a new head for {{classes}} balanced classes starts training. Which loss do you "
        "expect at the first step?",
        answer="{{value}}, and {{chance}} percent accuracy. A first loss far above says that logits are too large "
        "or labels are off; far below, that the answer leaks.",
        listen_for=("log of the number of classes", "a check before any tuning"),
        wrong=("a loss of one", "it depends on the model only"),
        follow_ups=(
            then(
                "And for a causal model on answers?",
                "That of the untuned model on that text, usually between 0.5 and 3 per token, far below the "
                "logarithm of the vocabulary. Near that logarithm the input is garbage to it: wrong template, wrong "
                "tokenizer, broken weights.",
                src.ALGEBRA,
            ),
            then(
                "What is overfitting ten rows good for?",
                "It shows that gradients flow from loss to adapter: the loss must go to nearly zero. If it does "
                "not, no rate will help.",
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, "PyTorch documentation, torch.nn.CrossEntropyLoss"),
    ),
    ask(
        id="debug-flat", level="hard", kind="free",
        question="The loss of a LoRA run is flat. List causes in the order in which you would rule them out, each "
        "with its test.",
        answer="1. Nothing is trained: print trainable parameters, compare with the formula; targets misspelt, or "
        "`requires_grad` lost. 2. No gradient arrives: look at the norm of B's gradient after one batch; both "
        "factors zero, α = 0, or checkpointing with inputs that need no gradient. 3. The optimizer has other "
        "parameters: it was made before the adapter was added; check that a weight changed after a step. 4. Labels: "
        "all masked, or not aligned; print one row. 5. The rate is too low by a factor of ten, as one taken from "
        "full fine-tuning, or a warm-up as long as the run. 6. Nothing to learn: the base is as good already, or "
        "labels are noise; overfit ten rows. Flat after a fall is another question: capacity or data.",
        listen_for=(
            "each cause with a test",
            "from wiring to optimisation",
            "overfits a few rows",
            "flat from the start against flat later",
        ),
        wrong=("raises the rank first", "changes five things at once"),
        follow_ups=(
            then(
                "B's gradient is not zero but B stays zero after a step. Why?",
                "The optimizer does not own it, the rate is zero at that step (warm-up from zero), the scaler "
                "skipped the step, or weights are in a dtype in which the update is lost.",
                src.RUN,
                f"{src.MIXED}, section 3",
            ),
            then(
                "α = 0: does anything learn?",
                "No: the scale multiplies the product, so gradients of A and B are zero as well.",
                src.ALGEBRA,
            ),
        ),
        sources=(src.RUN, src.PEFT, f"{src.LORA_REGRET}, Optimal learning rates for LoRA vs. FullFT"),
    ),
    ask(
        id="debug-order-of-preparing", level="medium", kind="choice", correct=1,
        options=(
            "Nothing, the order does not matter",
            "The adapter is frozen, and nothing is trained",
            "The base becomes trainable",
            "The base is quantised twice",
        ),
        because=(
            "The second call touches every parameter, the adapter's as well.",
            "",
            "The call freezes, it never unfreezes.",
            "It casts and freezes; it does not quantise.",
        ),
        question="A script calls `get_peft_model` first and `prepare_model_for_kbit_training` on the result "
        "afterwards. What happens?",
        answer="The adapter is frozen: preparing sets `requires_grad` to False for every parameter that it finds. "
        "Prepare the base first, then add the adapter.",
        listen_for=(
            "what preparing does: freeze, cast, checkpointing inputs",
            "order",
            "counts trainable parameters",
        ),
        wrong=("nothing",),
        follow_ups=(
            then(
                "What else does preparing do?",
                "It casts the other 16-bit parameters to float32 (for bitsandbytes bases), and makes inputs require "
                "gradients, so that checkpointing works.",
                f"{src.PEFT}, prepare_model_for_kbit_training",
            ),
            then(
                "Which cost has the cast?",
                "Embeddings and output layer double in size: with a large vocabulary that is gigabytes.",
                f"{src.PEFT}, prepare_model_for_kbit_training",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, prepare_model_for_kbit_training",),
    ),
    ask(
        id="debug-no-effect", level="medium", kind="free",
        question="An adapter is loaded without an error, and the outputs equal the base's to the last digit. What "
        "do you check?",
        answer="Equal to the last digit means that the product is zero or not used. Was it loaded with "
        "`PeftModel.from_pretrained`, or wrapped anew by `get_peft_model`, which adds a fresh adapter with B = 0? "
        "Are there missing or unexpected keys, because the module names differ from those in training (another "
        "class, a prefix more)? Is the adapter active and enabled, and not switched off or a second one active? Are "
        "B's norms in the file zero, so that nothing was trained or saved? And is the served model really this one? "
        "`get_model_status` answers most of it.",
        listen_for=(
            "Exact equality means that the product is zero or not used.",
            "Was it wrapped anew with `get_peft_model`, which adds a fresh adapter with B = 0?",
            "Are there missing or unexpected keys, because module names differ?", "Is the adapter active and enabled?",
            "Are B's norms in the file zero, so that nothing was trained or saved?",
        ),
        wrong=("raises α", "trains longer", "'the adapter is too small to be seen in the outputs'"),
        follow_ups=(
            then(
                "And if they differ, but as badly as an untrained adapter?",
                "Wrong base or revision, another tokenizer or template, half of the keys loaded, or a scale that "
                "differs because the config was edited.",
                TROUBLE,
                src.PEFT,
            ),
            then(
                "How large are healthy norms?",
                "Not zero in every adapted map, and growing with training; compare with those at the end of the "
                "run, which belong into its log.",
                src.ALGEBRA,
            ),
        ),
        sources=(TROUBLE, f"{src.PEFT}, get_model_status"),
    ),
    ask(
        id="debug-tensors", level="basic", kind="numeric", calculate=calc.tensors, model="llama-3.1-8b", fits=gated,
        question="LoRA on the seven linear maps of each of {{model}}'s {{layers}} layers is saved. How many tensors "
        "do you expect in the file?",
        answer="{{value}}: A and B for each map. Fewer means that targets were missed, more that embeddings or a "
        "head were saved as well; a count takes a second and finds most faults of saving.",
        listen_for=("two per map", "looks into the file before shipping"),
        wrong=("one per map",),
        follow_ups=(
            then("The count is right and the file has a few kilobytes. Now?", to="debug-empty-file"),
            then(
                "How do you read the shapes without loading?",
                "safetensors keeps a header with names, types and shapes at the start of the file.",
                "safetensors documentation, format",
            ),
        ),
        sources=(f"{src.LORA}, section 4.1", f"{src.PEFT}, get_peft_model_state_dict"),
    ),
    ask(
        id="debug-empty-file", level="hard", kind="free",
        question="Training with ZeRO-3 ended well. Loading the adapter fails: 'copying a param with shape "
        "torch.Size([0])'. What happened, can the adapter be saved, and how do you prevent it?",
        answer="Under ZeRO-3 a parameter is partitioned, and on each process the tensor itself is empty; whoever "
        "writes the state dict without gathering writes empty tensors. The training state itself may be intact: "
        "convert the last DeepSpeed checkpoint, which holds the shards, to a full state dict and take the adapter's "
        "keys from it. To prevent it, save through the trainer or accelerate with gathering on "
        "(`zero3_save_16bit_model`, or a gathering context around the save), on the versions that fixed it, and "
        "look at the file's size after the first save, not after the last.",
        listen_for=(
            "Under ZeRO-3 parameters are partitioned, so on each process the tensor is empty unless it is gathered.",
            "The adapter may be rescued from the last DeepSpeed checkpoint, which holds the shards.",
            "Prevent it by saving with gathering on (`zero3_save_16bit_model` or a gathering context).",
            "Look at the file after the first save.",
        ),
        wrong=("trains again at once", "resizes the tensors on loading", "'the adapter cannot be rescued'"),
        follow_ups=(
            then(
                "Why does it hit `modules_to_save` as well?",
                "The copies are parameters like others and are partitioned, too; reports show empty embeddings and "
                "heads beside good adapters.",
                EMPTY,
            ),
            then(
                "Which size do you expect?",
                "Count the parameters by the formula and multiply by the bytes of the dtype; a file of some "
                "kilobytes holds names only.",
                f"{src.LORA}, section 4.1",
            ),
        ),
        sources=(EMPTY, f"{src.PEFT}, DeepSpeed"),
    ),
    ask(
        id="debug-chance", level="medium", kind="numeric", calculate=calc.better_than_chance,
        given={"rows": 200, "classes": 2},
        question="A reloaded classifier is tested on {{rows}} rows with {{classes}} balanced classes. Below which "
        "accuracy would you still call it a head that guesses (two standard deviations above chance)?",
        answer="{{value}}: one standard deviation is {{deviation}} points. A head that was not saved scores about "
        "chance, on both sides of it.",
        listen_for=("binomial spread", "a small test set hides a broken head"),
        wrong=("exactly chance, or it has learnt",),
        follow_ups=(
            then(
                "It scores clearly below chance. What does that say?",
                "Labels are swapped: the head has learnt, but the mapping from index to class differs between "
                "training and test.",
                src.ALGEBRA,
            ),
            then(
                "How do you tell a random head from a forgotten adapter?",
                "Not by the score: both are near chance. A head that was trained beside an adapter reads features that "
                "the adapter makes. Alone it is no linear probe: a probe's head is trained on the base's own features. "
                "Look instead: the head must be among the file's tensors and equal after loading, and with the adapter "
                "switched off the logits must change.",
                TROUBLE,
                f"{src.PEFT}, disable_adapter",
                opens=lab("fact_check", claim="qlora-merge"),
            ),
        ),
        sources=(src.ALGEBRA, f"{TROUBLE}, Randomly initialized layers"),
    ),
)  # fmt: skip
