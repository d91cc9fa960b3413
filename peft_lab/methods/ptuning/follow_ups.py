"""What is asked after the questions on P-Tuning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import told

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"
SINGLE, MOMENTS = 4, 2


def _default_width(case: Case) -> Answer:
    value = case.trained("ptuning", num_virtual_tokens=case["n"], encoder_hidden_size=case.shape.hidden)
    return told(value, "parameters", width=case.shape.hidden)


def _moments(case: Case) -> Answer:
    value = case.trained("ptuning", num_virtual_tokens=case["n"], encoder_hidden_size=case.shape.hidden)
    kept = told(case["n"] * case.shape.hidden * MOMENTS * SINGLE, "bytes").shown
    return told(value * MOMENTS * SINGLE, "bytes", tokens=kept)


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "ptuning-stored": (
        then("Then why train an encoder at all?", to="ptuning-why-encoder"),
        then(
            "And how would you prove that nothing is lost by throwing it away?",
            "Compute the virtual tokens once with the encoder, save them, and compare the outputs with the encoder's "
            "on some texts: they are equal, because the encoder never sees the text.",
            src.PEFT, f"{src.PTUNING}, section 2",
            opens=lab("ptuning", model=SMOL, num_virtual_tokens=20, tab="parameters"),
        ),
    ),
    "ptuning-against-prompt": (
        then("Where in the input did the P-Tuning paper put its tokens?", to="ptuning-template"),
        then(
            "Both at inference, side by side: can you tell from the adapter which one it was?",
            "Not from the stored numbers: both are a few vectors of the embedding's width in front of the text. Only "
            "the config says how they were found.",
            src.PEFT, opens=lab("ptuning", model=SMOL, tab="modules"),
        ),
    ),
    "ptuning-why-encoder": (
        then(
            "Which other method reparameterises its tokens in training?",
            "Prefix Tuning with its projection: a table and an MLP make the keys and values of all layers, and only "
            "their output is kept.",
            f"{src.PREFIX}, section 4.3", opens=lab("prefix", model=SMOL, prefix_projection=True, tab="modules"),
        ),
        then("And why could its authors throw the MLP away?", to="prefix-why-projection"),
    ),
    "ptuning-mlp": (
        then(
            "What changes with PEFT's default width?",
            "The default is the model's hidden size, {{width}} here, and all three layers become square: {{value}}.",
            src.PEFT, calculate=_default_width,
            opens=lab("ptuning", model=LLAMA, num_virtual_tokens=20, tab="parameters"),
        ),
        then("How many times what is stored is that?", to="ptuning-default-width"),
    ),
    "ptuning-default-width": (
        then(
            "What does this do to optimizer memory?",
            "Adam's float32 moments take {{value}}; for the virtual tokens alone they would take {{tokens}}. Beside "
            "the weights it is still little, but it is all for something that is thrown away.",
            f"{src.ADAM}, algorithm 1", calculate=_moments,
        ),
        then(
            "Which of PEFT's prompt methods trains the most at its defaults? Guess.",
            "The Lab asks it and counts; the answer surprises most people.",
            src.PEFT, opens=lab("misconceptions", belief="predict-ptuning-size"),
        ),
    ),
    "ptuning-thrown-away": (
        then(
            "For which methods are trained and stored parameters equal?",
            "For those that store what they train: LoRA, QLoRA's adapter, IA³, BitFit, adapters, Prompt Tuning, and a "
            "prefix without projection. They differ for P-Tuning and for a prefix with projection, which train a "
            "network to make what they store.",
            src.PEFT,
        ),
        then("So where does a prefix stand, with projection?", to="prefix-projected-share"),
    ),
    "ptuning-v2-count": (
        then("Which class of PEFT do you use for it?", to="ptuning-v2-in-peft"),
        then(
            "Does the count depend on the text's length or the number of labels?",
            "Not on the length. The labels come in with the classification head, which is trained beside the prompts "
            "and should be counted as a part of its own.",
            f"{src.PTUNING2}, section 3.3", src.ALGEBRA,
            opens=lab("ptuning", model="bert-base", version="v2", tab="parameters"),
        ),
    ),
    "ptuning-v1-v2": (
        then(
            "How is it related to Prefix Tuning?",
            "In mechanism it is Prefix Tuning: trained keys and values in every layer. What is new is where it is "
            "used, on understanding and tagging tasks, and how: a linear head, lengths chosen by task, "
            "reparameterisation optional.",
            f"{src.PTUNING2}, sections 3.2 and 3.3",
        ),
        then("Then run it with PEFT. What goes wrong?", to="ptuning-v2-in-peft"),
    ),
    "ptuning-lstm": (
        then(
            "Why might the MLP be the better default?",
            "It is far smaller at the same width, it runs in parallel instead of token by token, and the tokens are a "
            "handful: there is little for a recurrence to gain. The LSTM stands for the first version of the idea, "
            "coupling neighbouring tokens.",
            f"{src.PTUNING}, section 2", src.PEFT,
            opens=lab("ptuning", model=LLAMA, encoder_reparameterization_type="LSTM", tab="parameters"),
        ),
        then("How large is the MLP, by the same default?", to="ptuning-default-width"),
    ),
    "ptuning-v2-in-peft": (
        then(
            "How would you check that the prefix really takes part?",
            "Change one of its vectors and see whether the output changes. Look at its gradients in the first step. "
            "Measure how much attention lands on it. And count what is trainable: a head alone learns, too, and hides "
            "that the prefix does nothing.",
            src.RUN, opens=lab("ptuning", model="minilm-l6", version="v2", tab="look inside"),
        ),
        then("Why does an encoder refuse it?", to="prefix-on-encoders"),
    ),
    "ptuning-template": (
        then(
            "Would the position matter for a causal model?",
            "Yes. A token can influence what comes after it only, so virtual tokens behind the text cannot change how "
            "the text itself is read, only the answer. In front they are seen by everything.",
            src.ALGEBRA,
        ),
        then(
            "And for an encoder that reads in both directions?",
            "There every token sees every other, wherever it stands, and only position embeddings tell places apart. "
            "Slots around the masked answer still differ from slots in front: they stand near what they are to "
            "change.",
            src.ALGEBRA, f"{src.PTUNING}, section 2",
        ),
        then("What is a soft prompt in general, against one that you type?", to="prompt-soft-hard"),
    ),
}  # fmt: skip
