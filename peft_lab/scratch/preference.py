"""Learning from preferences, from scratch: DPO (Rafailov et al. 2023, arXiv 2305.18290) and GRPO (Shao et al. 2024,
arXiv 2402.03300, section 4.1).

    DPO     a prompt x, a chosen answer y_w and a rejected one y_l
            L = -log sigmoid( beta [ log pi(y_w|x)/ref(y_w|x)  -  log pi(y_l|x)/ref(y_l|x) ] )

    GRPO    a prompt, G answers that the model wrote itself, a reward for each
            A_i = (reward_i - mean) / std                          an answer is good if it beats its group
            rho_t = pi(o_t) / old(o_t)                             old: the model that wrote the answer
            L = -mean over answers of mean over tokens of  min(rho_t A_i, clip(rho_t, 1 - eps, 1 + eps) A_i) - beta KL_t

                    tokens    x x x x y y y .          x: prompt, y: answer, .: padding
                    mask      0 0 0 0 1 1 1 0          only the answer counts
                    pi        - p p p p p p p          each token's probability is read one place before it

    python -m peft_lab.scratch.preference FOLDER_OF_MODEL
"""

import copy
import sys

import torch
from torch.nn import functional as F


def log_probabilities(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log probability of each token but the first, given those before it.

    logits: (rows, length, vocabulary). ids: (rows, length).
    """
    predicted = logits[:, :-1].log_softmax(dim=-1)  # (rows, length - 1, vocabulary)
    return predicted.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (rows, length - 1)


def dpo_loss(pi: torch.Tensor, ref: torch.Tensor, mask: torch.Tensor, beta: float) -> torch.Tensor:
    """Return DPO's loss, a scalar. Before the first step pi is ref, and it is log 2.

    pi, ref: log probabilities of the tokens, (2 pairs, length - 1): first the chosen answers, then the rejected ones.
    mask: of the same shape, 1 where a token belongs to an answer.
    """
    chosen, rejected = ((pi - ref) * mask).sum(dim=1).chunk(2)  # (pairs,), the log ratios of whole answers
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Return how far each reward is above its group's mean, in standard deviations.

    rewards: (prompts, G). In a group of equal rewards all are 0, and nothing is learned from it.
    """
    above = rewards - rewards.mean(dim=1, keepdim=True)  # (prompts, G)
    return above / (rewards.std(dim=1, keepdim=True) + 1e-4)


def grpo_loss(
    pi: torch.Tensor,
    old: torch.Tensor,
    ref: torch.Tensor,
    A: torch.Tensor,
    mask: torch.Tensor,
    eps: float,
    beta: float,
) -> torch.Tensor:
    """Return GRPO's loss, a scalar.

    pi, old, ref: log probabilities of the tokens, (answers, length - 1). A: (answers,). mask: as for DPO.
    """
    rho = (pi - old).exp()  # (answers, length - 1); 1 in the first step on an answer
    A = A[:, None]  # (answers, 1): one for all tokens of an answer
    gain = torch.min(rho * A, rho.clamp(1 - eps, 1 + eps) * A)  # no gain from going further than eps
    KL = (ref - pi).exp() - (ref - pi) - 1  # an estimate that is never negative (section 4.1.1)
    per_token = (beta * KL - gain) * mask
    return (per_token.sum(dim=1) / mask.sum(dim=1)).mean()


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    reference = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).requires_grad_(False)
    policy = copy.deepcopy(reference)
    policy.model.layers[-1].requires_grad_(True)  # the last block is enough here; a LoRA would do as well
    prompt, answers = "How are you?", [" Very well, thank you!", " Go away."]
    batch = tokenizer([prompt + answer for answer in answers], return_tensors="pt", padding=True)
    mask = batch["attention_mask"][:, 1:].clone()
    mask[:, : len(tokenizer(prompt)["input_ids"]) - 1] = 0
    ref = log_probabilities(reference(**batch).logits, batch["input_ids"])

    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-5)
    for step in range(5):
        pi = log_probabilities(policy(**batch).logits, batch["input_ids"])
        loss = dpo_loss(pi, ref, mask, beta=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: loss {loss.item():.3f}")
