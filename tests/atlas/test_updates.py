"""The formula that the atlas shows of a type is what PEFT's own forward pass computes.

Every reading holds a formula as it is shown and the same formula as tensors: a formula that is written anew has to be
read anew here. PEFT's parameters are made random first, so that nothing is zero or one by its start.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from peft_lab.atlas import get_entry

torch: Any = pytest.importorskip("torch")
WIDE, OUT, ROWS, RANK, ALPHA = 12, 8, 5, 4, 6
RANKS = {"r": RANK, "lora_alpha": ALPHA}
S = ALPHA / RANK


class Reading(NamedTuple):
    """A formula, the settings it is read at, and the weight it gives of PEFT's parameters and the base weight."""

    formula: str
    settings: dict[str, Any]
    weight: Callable[[Any, Any], Any]


def _eye(n: int) -> Any:
    return torch.eye(n)


def _grid(p: Any) -> Any:
    """GraLoRA: block (i, j) writes stripe i of the outputs, reads stripe j of the inputs, and has rank r/k."""
    a, b, k = p.gralora_A, p.gralora_B, 2
    cut = [slice(i * RANK // k, (i + 1) * RANK // k) for i in range(k)]
    return torch.cat([torch.cat([(a[j][:, cut[i]] @ b[i][cut[j]]).T for j in range(k)], 1) for i in range(k)])


def _deft(p: Any, w: Any) -> Any:
    return (_eye(OUT) - p.deft_P @ torch.relu(p.deft_P).T) @ w + p.deft_P @ p.deft_R


def _mirrors(p: Any, w: Any) -> Any:
    for u in (p.hra_u / p.hra_u.norm(dim=0)).T:
        w = w @ (_eye(WIDE) - 2 * torch.outer(u, u))
    return w


def _bases(p: Any) -> Any:
    """RandLoRA: on a map with fewer outputs than inputs its products are transposed. Which random columns make up one
    B_i is PEFT's order of flattening."""
    lam, gamma = p.randlora_lambda, p.randlora_gamma
    b = p.randlora_B.flatten(1).reshape(WIDE, RANK, -1)
    return sum(
        b[:, :, i] @ torch.diag(lam[:, i]) @ p.randlora_A[:, 0] @ torch.diag(gamma[i])
        for i in range(lam.shape[1])
    ).T


def _tiny(p: Any, w: Any) -> Any:
    u, s, v = torch.linalg.svd(w)
    (mixed,) = p.tinylora_v.values()
    return w + u[:, :2] * s[:2].sqrt() @ torch.einsum("i,ijk->jk", mixed, p.tinylora_P) @ (
        s[:2].sqrt()[:, None] * v[:2]
    )


def _turned(p: Any, w: Any) -> Any:
    """PSOFT: W's main part, turned; the layer's own R holds the two scales already."""
    u, s, v = torch.linalg.svd(w, full_matrices=False)
    return w + (u[:, :RANK] * s[:RANK]) @ (p.psoft_R.get_matrix() - _eye(RANK)) @ v[:RANK]


READINGS = {
    "lora": Reading("W + (α/r)·B·A", RANKS, lambda p, w: w + S * p.lora_B @ p.lora_A),
    "rslora": Reading("W + (α/√r)·B·A", RANKS | {"use_rslora": True}, lambda p, w: w + ALPHA / 2 * p.lora_B @ p.lora_A),
    "hira": Reading("W + W ⊙ (B·A)", {"r": RANK}, lambda p, w: w + w * (p.hira_B @ p.hira_A)),
    "adalora": Reading(
        "W + (α/r)·P·diag(λ)·Q, with the smallest λ cut during training",
        {"init_r": RANK, "lora_alpha": ALPHA, "total_step": 10},
        lambda p, w: w + S * p.lora_B @ torch.diag(p.lora_E[:, 0]) @ p.lora_A,
    ),
    "delora": Reading(
        "W + (λ/r)·B·Ξ·A·diag(‖w‖), every rank-one part scaled to length 1, and ‖w‖ the lengths of W's columns",
        {"r": RANK},
        lambda p, w: (
            w
            + p.delora_lambda / RANK * p.delora_B @ torch.diag(1 / p.delora_A.norm(dim=1) / p.delora_B.norm(dim=0))
            @ p.delora_A @ torch.diag(w.norm(dim=0))
        ),
    ),
    "gralora": Reading(
        "W + (α/r)·a k×k grid of blocks B_ij·A_ij, each of rank r/k",
        {"r": RANK, "gralora_k": 2, "alpha": ALPHA},
        lambda p, w: w + S * _grid(p),
    ),
    "glora": Reading(
        "W + W ⊙ A + B, and bias b + b ⊙ D + E + W·C, with A and B of rank r",
        {"r": RANK, "config_A_B": "lora"},
        lambda p, w: w + w * p.glora_A() + p.glora_B(),
    ),
    "deft": Reading("(I − P·relu(P)ᵀ)·W + P·R", {"r": RANK}, _deft),
    "peanut": Reading(
        "W + s·f(W·A)·B, a small network that reads W",
        {"r": RANK, "depth": 0, "act_fn": "relu"},
        lambda p, w: w + p.scaling * (torch.relu(w.T @ p.peanut_A.T) @ p.peanut_B.T).T,
    ),
    "loha": Reading(
        "W + (α/r)·(B₁·A₁) ⊙ (B₂·A₂)",
        {"r": RANK, "alpha": ALPHA},
        lambda p, w: w + S * (p.hada_w1_a @ p.hada_w1_b) * (p.hada_w2_a @ p.hada_w2_b),
    ),
    "lokr": Reading(
        "W + (α/r)·C ⊗ (B·A)",
        {"r": 1, "alpha": ALPHA},
        lambda p, w: w + ALPHA * torch.kron(p.lokr_w1, p.lokr_w2_a @ p.lokr_w2_b),
    ),
    "vera": Reading(
        "W + diag(b)·B·diag(d)·A, with A and B random, frozen, one pair for all layers",
        {"r": RANK},
        lambda p, w: w + torch.diag(p.vera_lambda_b) @ p.vera_B @ torch.diag(p.vera_lambda_d) @ p.vera_A,
    ),
    "tinylora": Reading(
        "W + U·√Σ·(Σ_i v_i·P_i)·√Σ·Vᵀ, with U, Σ, V from W and P_i random and frozen",
        {"r": 2, "u": 3, "weight_tying": 0.0},
        _tiny,
    ),
    "randlora": Reading(
        "W + (α/r)·Σ_i B_i·diag(λ_i)·A·diag(γ_i), with one random frozen A and enough B_i for full rank",
        {"r": RANK, "randlora_alpha": ALPHA},
        lambda p, w: w + S * _bases(p),
    ),
    "psoft": Reading(
        "W + B·(diag(α)·R·diag(β) − I)·A, with A and B from W's largest singular directions, R orthogonal",
        {"r": RANK, "psoft_alpha": ALPHA},
        _turned,
    ),
    "hra": Reading("W·H₁·…·H_r, a chain of reflections", {"r": RANK}, _mirrors),
    "ia3": Reading(
        "diag(l)·W, or W·diag(l) in the feed-forward part",
        {"feedforward_modules": []},
        lambda p, w: torch.diag(p.ia3_l[:, 0]) @ w,
    ),
    "poly": Reading(
        "W + (1/r)·(Σ_s π_ts·B_s)·(Σ_s π_ts·A_s), with trained weights π of each skill s for task t",
        {"r": RANK, "n_skills": 3, "n_tasks": 2},
        lambda p, w: w + (_skills(p, p.poly_lora_A) @ _skills(p, p.poly_lora_B)).T / RANK,
    ),
    "lily": Reading(
        "W + s·(Σ_e g_e·B_e)·A, with A shared by neighbouring layers, B_e by all layers, and one g per batch",
        {"r": RANK, "num_B": 3, "scaling": 2.0},
        lambda p, w: w + 2 * torch.einsum("e,eio->oi", _gates(p), p.lily_B.reshape(3, RANK, OUT)) @ p.lily_A,
    ),
}  # fmt: skip


READINGS |= {
    "dora": Reading(
        "m·(W + (α/r)·B·A)/‖W + (α/r)·B·A‖, row by row",
        RANKS | {"use_dora": True},
        lambda p, w: _of_length(w + S * p.lora_B @ p.lora_A, p.lora_magnitude_vector.weight),
    ),
    "miss": Reading(
        "W + one d_out×r matrix repeated along the inputs",
        {"r": RANK},
        lambda p, w: w + p.miss_block.T.repeat(1, WIDE // RANK),
    ),
    "fourierft": Reading(
        "W + s·Re(F⁻¹(C)), with n trained entries of C at random places",
        {"n_frequency": 10, "scaling": 5.0},
        lambda p, w: w + 5 * torch.fft.ifft2(_placed(p.indices, p.fourierft_spectrum)).real,
    ),
    "shira": Reading(
        "W + S, with S zero except at chosen places",
        {"r": 2},
        lambda p, w: w + _placed(p.shira_indices, p.shira_weight),
    ),
    "pvera": Reading(
        "W + diag(b)·B·z(A·x), with z drawn from a trained normal distribution",
        {"r": RANK},  # where nothing is drawn, the mean is taken: the first half of A and d
        lambda p, w: w + torch.diag(p.pvera_lambda_b) @ p.pvera_B @ torch.diag(p.pvera_lambda_d[:RANK])
        @ p.pvera_A[:RANK],
    ),
}  # fmt: skip


def _of_length(w: Any, lengths: Any) -> Any:
    return lengths[:, None] * w / w.norm(dim=1, keepdim=True)


def _placed(where: Any, numbers: Any) -> Any:
    matrix = torch.zeros(OUT, WIDE)
    matrix[where[0].long(), where[1].long()] = numbers
    return matrix


def _skills(p: Any, skills: Any) -> Any:
    """Poly's mixture for task 1, of As or of Bs."""
    chosen = torch.sigmoid(p.poly_router.module_logits[1])
    return torch.einsum("s,sij->ij", chosen / chosen.sum(), skills[0])


def _gates(p: Any) -> Any:
    """Lily's gates for the batch that is the identity: the mean over its rows."""
    return torch.softmax(p.lily_A.T @ p.lily_router.T, dim=-1).mean(0)


def attached(name: str, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """PEFT's model of one map with random parameters, the map's base weight, and what the wrapped layer holds."""
    import peft

    torch.manual_seed(0)

    class One(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.q = torch.nn.Linear(WIDE, OUT, bias=False)

        def forward(self, x: Any, **also: Any) -> Any:
            return self.q(x, **also)

    base = One()
    weight = base.q.weight.detach().clone()
    kind: Any = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType[get_entry(name).type]]
    config = kind(target_modules=["q"], **settings)
    model: Any = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter))
    layer, parts = model.base_model.model.q, SimpleNamespace()
    for where in (layer, getattr(layer, "base_model", None), model.base_model):
        for part in dir(where):
            held: Any = getattr(where, part, None) if not part.startswith("__") else None
            if hasattr(held, "items") and "default" in held:
                one = held["default"]
                setattr(parts, part, one.weight if isinstance(one, torch.nn.Linear) else one)
    return model, weight, parts


@pytest.mark.parametrize("name", READINGS)
def test_a_formula_is_what_peft_computes(name: str) -> None:
    formula, settings, reading = READINGS[name]
    assert get_entry(name).update == formula, "read the new formula as tensors here too"
    model, weight, parts = attached(name, settings)
    of_task = {"task_ids": torch.ones(1, dtype=torch.long)} if name == "poly" else {}
    with torch.no_grad():
        batch = _eye(WIDE)[None] if name == "poly" else _eye(WIDE)
        computed = model(batch, **of_task).reshape(WIDE, OUT).T
        torch.testing.assert_close(computed, reading(parts, weight), rtol=1e-4, atol=1e-4)


def test_x_loras_gates_weigh_every_loras_own_scaled_product() -> None:
    """Token by token: the gates of one token are not those of another."""
    import peft
    from peft.tuners.xlora.layer import XLoraLinearLayer

    formula = "W + Σ_e g_e(h)·(α/r)·B_e·A_e, with gates computed from the hidden states, token by token"
    assert get_entry("xlora").update == formula
    model, weight, parts = attached("lora", RANKS)
    layer: Any = model.base_model.model.q
    gates = torch.rand(1, WIDE, 1, 1)
    config = peft.XLoraConfig(hidden_size=WIDE, adapters={})
    routed = XLoraLinearLayer(SimpleNamespace(disabled=False), layer, layer.forward, 0, config)  # type: ignore[arg-type]
    with torch.no_grad():
        computed = routed.forward(_eye(WIDE)[None], scalings=gates)[0].T
        torch.testing.assert_close(computed, weight + S * parts.lora_B @ parts.lora_A * gates[0, :, 0, 0])
