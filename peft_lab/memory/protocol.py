"""How the published peaks were taken (the PEFT library's method comparison, MetaMathQA), as a schedule to simulate.

One process: the model is loaded onto the GPU, the loss on unrelated text is taken, then steps run on batches sorted by
length within every twenty, with the cache emptied every ten steps, and answers are generated now and then. Its peak is
reached by whichever of these needs most, so all are run, each in the state in which the loop reaches it.
"""

from __future__ import annotations

from peft_lab.memory import step
from peft_lab.memory.simulate import Setting, Stage

#: Tokens of the longest training batch. Not published: the tokenizer's limit is 768, the texts are cut by characters
#: (1,300) long before, and with 768 even the tensors alive would exceed every published reserve. See LONGEST below.
LONGEST = 680
#: A batch from the short end of a bucket; it leaves the optimizer's states and the last outputs behind.
SHORT = 250
#: The evaluation's limits.
EVALUATION_ROWS, EVALUATION_TOKENS = 4, 768
SETTING = Setting(batch=4, seq=LONGEST, padded=True, capability=(8, 9))


def training(stage: Stage) -> None:
    """Loss on unrelated text, a short step, the cache emptied, the longest step, a short one."""
    model = stage.subject.model
    model.eval()
    step.evaluate(stage.subject, stage.recorder, EVALUATION_ROWS, EVALUATION_TOKENS)
    model.train()
    stage.train(SHORT)
    stage.recorder.empty_cache()
    stage.train(stage.setting.seq)
