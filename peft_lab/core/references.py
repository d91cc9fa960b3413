"""Citations of papers and measurements, each spelled once, and the facts that texts state, for code to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

LORA = "Hu et al. 2021, LoRA, arXiv:2106.09685"
QLORA = "Dettmers et al. 2023, QLoRA, arXiv:2305.14314"
PREFIX = "Li & Liang 2021, Prefix-Tuning, arXiv:2101.00190"
PROMPT = "Lester et al. 2021, Prompt Tuning, arXiv:2104.08691"
PROMPT_TRANSFER = "Su et al. 2021, On Transferability of Prompt Tuning, arXiv:2111.06719"
PTUNING = "Liu et al. 2021, P-Tuning, arXiv:2103.10385"
PTUNING2 = "Liu et al. 2021, P-Tuning v2, arXiv:2110.07602"
HOULSBY = "Houlsby et al. 2019, Adapters, arXiv:1902.00751"
BAPNA = "Bapna & Firat 2019, Simple, Scalable Adaptation for NMT, arXiv:1909.08478"
PFEIFFER = "Pfeiffer et al. 2020, AdapterFusion, arXiv:2005.00247"
UNIFIED = "He et al. 2021, A Unified View, arXiv:2110.04366"
IA3 = "Liu et al. 2022, IA³, arXiv:2205.05638"
BITFIT = "Ben Zaken et al. 2021, BitFit, arXiv:2106.10199"
RSLORA = "Kalajdzievski 2023, rsLoRA, arXiv:2312.03732"
DORA = "Liu et al. 2024, DoRA, arXiv:2402.09353"
PISSA = "Meng et al. 2024, PiSSA, arXiv:2404.02948"
ADALORA = "Zhang et al. 2023, AdaLoRA, arXiv:2303.10512"
LOFTQ = "Li et al. 2023, LoftQ, arXiv:2310.08659"
LEARNS_LESS = "Biderman et al. 2024, LoRA Learns Less and Forgets Less, arXiv:2405.09673"
INTRINSIC = "Aghajanyan et al. 2020, Intrinsic Dimensionality, arXiv:2012.13255"
WAYWARD = "Khashabi et al. 2021, Prompt Waywardness, arXiv:2112.08348"
SLORA = "Sheng et al. 2023, S-LoRA, arXiv:2311.03285"
PUNICA = "Chen et al. 2023, Punica, arXiv:2310.18547"
GQA = "Ainslie et al. 2023, GQA, arXiv:2305.13245"
ZERO = "Rajbhandari et al. 2019, ZeRO, arXiv:1910.02054"
MIXED = "Micikevicius et al. 2017, Mixed Precision Training, arXiv:1710.03740"
ADAM = "Kingma & Ba 2014, Adam, arXiv:1412.6980"
CHECKPOINTING = "Chen et al. 2016, Sublinear Memory Cost, arXiv:1604.06174"
SCALING = "Kaplan et al. 2020, Scaling Laws, arXiv:2001.08361"
BLOCK_SCALED = "Triton documentation, Blocked-Scaled Matrix Multiplication"
LLM_INT8 = "Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339"
BLOCKWISE = "Dettmers et al. 2021, 8-bit Optimizers, arXiv:2110.02861"
GPTQ = "Frantar et al. 2022, GPTQ, arXiv:2210.17323"
TRANSFORMER = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"
PALM = "Chowdhery et al. 2022, PaLM, arXiv:2204.02311"
RETRIEVAL = "Ovadia et al. 2023, Fine-Tuning or Retrieval?, arXiv:2312.05934"
FEW_SAMPLE = "Zhang et al. 2020, Revisiting Few-sample BERT Fine-tuning, arXiv:2006.05987"
PURE_BF16 = "Zamirai et al. 2020, Revisiting BFloat16 Training, arXiv:2010.06192"
FUSED_LOSS = "Wijmans et al. 2024, Cut Your Losses, arXiv:2411.09009"
DOMAIN = "Gururangan et al. 2020, Don't Stop Pretraining, arXiv:2004.10964"
DPO = "Rafailov et al. 2023, Direct Preference Optimization, arXiv:2305.18290"
FSDP_QLORA = (
    "Answer.AI 2024, You can now train a 70b language model at home, answer.ai/posts/2024-03-06-fsdp-qlora"
)
VLLM = "vLLM documentation, LoRA Adapters"
PREFIX_CACHING = "vLLM documentation, Automatic Prefix Caching"
DATA_SHEETS = "NVIDIA's data sheets: dense 16-bit tensor cores"
BENCH = "PEFT library, method comparison on MetaMathQA (Llama-3.2-3B, one seed)"
PEFT = "PEFT documentation and code, version 0.21"
RUN = "run with torch 2.13, transformers 5.24, PEFT 0.21.2 and bitsandbytes 0.50.2 on CPU"
ALGEBRA = "follows from the definition"
LORA_REGRET = "Schulman & Thinking Machines Lab 2025, LoRA Without Regret, thinkingmachines.ai/blog/lora"
TINKER = "Thinking Machines Lab 2026, Tinker cookbook and documentation"
LORAPLUS = "Hayou et al. 2024, LoRA+, arXiv:2402.12354"
TULU3 = "Lambert et al. 2024, Tülu 3, arXiv:2411.15124"
LLAMA2 = "Touvron et al. 2023, Llama 2, arXiv:2307.09288"
LIMA = "Zhou et al. 2023, LIMA, arXiv:2305.11206"
LION = "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675"
BERT = "Devlin et al. 2018, BERT, arXiv:1810.04805"
COMPACTER = "Karimi Mahabadi et al. 2021, Compacter, arXiv:2106.04647"
LLM_ADAPTERS = "Hu et al. 2023, LLM-Adapters, arXiv:2304.01933"
REPEATING = "Muennighoff et al. 2023, Scaling Data-Constrained Language Models, arXiv:2305.16264"
GRPO = "Shao et al. 2024, DeepSeekMath, arXiv:2402.03300"
E5_MISTRAL = "Wang et al. 2024, Improving Text Embeddings with Large Language Models, arXiv:2401.00368"
TRL = "TRL documentation"
HANDBOOK = "Alignment Handbook, recipes/zephyr-7b-beta"
UNSLOTH = "Unsloth notebooks, continued pretraining"
SENTENCE_TRANSFORMERS = "Sentence Transformers documentation, training overview"
TRANSFORMERS = "Transformers documentation"
RASCHKA = "Raschka 2023, Practical Tips for Finetuning LLMs Using LoRA, magazine.sebastianraschka.com"
UNSLOTH_GUIDE = "Unsloth documentation, LoRA fine-tuning hyperparameters guide"
SETFIT = "Tunstall et al. 2022, SetFit, arXiv:2209.11055"
ON_DEVICE = "Gunter et al. 2024, Apple Intelligence Foundation Language Models, arXiv:2407.21075"
LORA_LAND = "Zhao et al. 2024, LoRA Land, arXiv:2405.00732"
LONG_LORA = "Chen et al. 2023, LongLoRA, arXiv:2309.12307"
TIES = "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708"
DARE = "Yu et al. 2023, DARE, arXiv:2311.03099"
INTRUDERS = "Shuttleworth et al. 2024, LoRA vs Full Fine-tuning, arXiv:2410.21228"
LORA_INIT = "Hayou et al. 2024, The Impact of Initialization on LoRA Finetuning Dynamics, arXiv:2406.08447"
NON_ZERO = "Li et al. 2025, Beyond Zero Initialization, arXiv:2505.23194"
LORA_GA = "Wang et al. 2024, LoRA-GA, arXiv:2407.05000"
LORA_XS = "Bałazy et al. 2024, LoRA-XS, arXiv:2405.17604"
MUON = "Liu et al. 2025, Muon is Scalable for LLM Training, arXiv:2502.16982"
GALORE = "Zhao et al. 2024, GaLore, arXiv:2403.03507"
LISA = "Pan et al. 2024, LISA, arXiv:2403.17919"
DR_LORA = "Deng et al. 2026, DR-LoRA, arXiv:2601.04823"
EORA = "Liu et al. 2024, EoRA, arXiv:2410.21271"
LIGER = "Hsu et al. 2024, Liger Kernel, arXiv:2410.10989"
NEW_KNOWLEDGE = (
    "Gekhman et al. 2024, Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?, arXiv:2405.05904"
)
CONTINUAL = "Ibrahim et al. 2024, Continually Pre-train Large Language Models, arXiv:2403.08763"
SAFETY_COST = "Qi et al. 2023, Fine-tuning Aligned Language Models Compromises Safety, arXiv:2310.03693"
SAFETY_TUNED = "Kim et al. 2025, Rethinking Safety in LLM Fine-tuning, arXiv:2508.12531"
SAFETY_UNDONE = "Lermen et al. 2023, LoRA Fine-tuning Efficiently Undoes Safety Training, arXiv:2310.20624"
TEXT_TO_LORA = "Charakorn et al. 2025, Text-to-LoRA, arXiv:2506.06105"
JINA3 = "Sturua et al. 2024, jina-embeddings-v3, arXiv:2409.10173"
RANK_LLAMA = "Ma et al. 2023, Fine-Tuning LLaMA for Multi-Stage Text Retrieval, arXiv:2310.08319"
BACKDOORS = (
    "Puertolas Merenciano et al. 2026, Weight Space Detection of Backdoors in LoRA Adapters, arXiv:2602.15195"
)
COLLUDING = "Cloud Security Alliance 2026, Colluding LoRA (research note on arXiv:2603.12681, abstract)"
VLLM_CODE = "vLLM code, vllm/lora and vllm/config/lora.py"
BNB = "bitsandbytes documentation and code, version 0.50"
QAT = "torchao documentation, Quantization-Aware Training"
GGUF = "gguf package 0.19, GGML_QUANT_SIZES"
RATE_SCALING = "Chen et al. 2026, Learning Rate Scaling across LoRA Ranks, arXiv:2602.06204"
SCALE_FACTOR = "Zhang et al. 2026, The Hidden Power of Scaling Factor in LoRA Optimization, arXiv:2606.12883"
RLVR_METHODS = "Yin et al. 2025, Evaluating Parameter Efficient Methods for RLVR, arXiv:2512.23165"
RANK_COLLAPSE = "Structure Over Scale, ICML 2026 FoGen workshop, openreview.net/forum?id=XGZHI14m8P"
PEFT_ARENA = "Huang et al. 2026, PEFT-Arena, arXiv:2605.28819"
QERL = "Huang et al. 2025, QeRL, arXiv:2510.11696"
TINYLORA = "Morris et al. 2026, Learning to Reason in 13 Parameters, arXiv:2602.04118"
BATCH_BIAS = "Lee & Lee 2026, Beware of the Batch Size, arXiv:2602.09492"
VANILLA = "Lee et al. 2026, Learning Rate Matters: Vanilla LoRA May Suffice, arXiv:2602.04998"
RANDLORA = "Albert et al. 2025, RandLoRA, arXiv:2502.00987"
MISS = "Kang & Yin 2024, MiSS, arXiv:2409.15371"
OFT2 = "Qiu et al. 2025, Orthogonal Finetuning Made Scalable, arXiv:2506.19847"
CARTRIDGES = "Eyuboglu et al. 2025, Cartridges, arXiv:2506.06266"
CPT = "Blau et al. 2024, Context-aware Prompt Tuning, arXiv:2410.17222"
BEFT = "Huang et al. 2025, BEFT, arXiv:2509.15974"
PREFIX_PLUS = "Wang et al. 2025, Prefix-Tuning+, arXiv:2506.13674"
ROAD = "Liao & Monz 2024, 3-in-1: 2D Rotary Adaptation, arXiv:2409.00119"
WHEN_PREFIX = "Petrov et al. 2024, When Do Prompting and Prefix-Tuning Work?, arXiv:2310.19698"
SHARED_PREFIX = "Le et al. 2024, Revisiting Prefix-tuning, arXiv:2410.02200"
SOUPS = "Prabhakar et al. 2024, LoRA Soups, arXiv:2410.13025"
LAYER_NORMS = "Zhao et al. 2024, Tuning LayerNorm in Attention, arXiv:2312.11420"
QWEN3 = "Yang et al. 2025, Qwen3 Technical Report, arXiv:2505.09388"
QDORA = (
    "Answer.AI 2024, Efficient finetuning of Llama 3 with FSDP QDoRA, "
    "www.answer.ai/posts/2024-04-26-fsdp-qdora-llama3.html"
)
VLLM_PROMPTS = "vLLM 2025, Remove Prompt Adapters, github.com/vllm-project/vllm/pull/20588"
ADAPTERS_LIBRARY = "AdapterHub 2026, adapters 1.3.0, github.com/adapter-hub/adapters/releases"
VLLM_BNB = "vLLM documentation, BitsAndBytes, docs.vllm.ai/en/latest/features/quantization/bnb"
BNB_FSDP = "bitsandbytes documentation, FSDP-QLoRA, huggingface.co/docs/bitsandbytes/fsdp_qlora"
CACHED_PROMPTS = "OpenAI documentation, Prompt caching, developers.openai.com/api/docs/guides/prompt-caching"
LORA_PRIMER = (
    "Thinking Machines Lab 2026, Tinker documentation, tinker-docs.thinkingmachines.ai/tinker/lora-primer"
)
VERA = "Kopiczko et al. 2023, VeRA, arXiv:2310.11454 (as PEFT's VeraConfig cites it)"
VIT = "Dosovitskiy et al. 2020, An Image is Worth 16x16 Words, arXiv:2010.11929"
POISONED_ADAPTERS = "arXiv:2605.30189, abstract (as summarised by papers.dast.ai, second-hand)"
OWASP = "OWASP LLM03, vulnerable LoRA adapters (as presented at evlbot.xyz, second-hand)"
SAMPLE_SIZE = "vrcacademy.com, sample size to estimate the difference of two proportions"
PYTORCH = "PyTorch documentation"
PYTORCH_CODE = "PyTorch"
TRANSFORMERS_CODE = "Transformers code"
SAFETENSORS = "safetensors documentation"
DIFFUSERS = "diffusers"
LLAMA_CPP_CODE = "llama.cpp, convert_lora_to_gguf.py and quantize"
EOS_ISSUES = "huggingface/transformers issue 23530 and huggingface/trl issue 976"
EMPTY_ADAPTER_ISSUES = (
    "huggingface/accelerate issue 3508, huggingface/trl issue 4416 and huggingface/peft issue 2450"
)
MERGE_CHECK = "Fact check: However a QLoRA adapter is merged, the model stays as good"
DECISION_TREE = "the lab's own decision tree, which asks first whether a prompt reaches the target"


# Two texts cannot be compared. Each text therefore lists the facts that it states, and :func:`contradiction` tells
# whether two facts cannot both hold.


Holds = Literal["always", "sometimes", "never"]
Numbers = tuple[float, float]

#: The subject is the first choice under the conditions; then nothing else is.
FIRST = "first choice"
#: A yes-or-no relation of the subject and the object.
RUNS, MERGES, SERVED, TARGETS = "runs on", "merges", "served by", "best on"
LENGTHENS, FORGETS_LESS = "lengthens requests", "forgets less than"
RANK_ONE = "needs no more than rank one"
#: Relations to a number, or to a range of numbers.
RATE, ROWS, SEEDS = "learning rate", "worth it from rows", "seeds"
NEAR_FULL = "near full fine-tuning from parameters"
NUMERIC = (RATE, ROWS, SEEDS, NEAR_FULL)
RELATIONS = (FIRST, RUNS, MERGES, SERVED, TARGETS, LENGTHENS, FORGETS_LESS, RANK_ONE, *NUMERIC)
#: Two slugs of one idea: advice for the first allows the second if memory is short.
_FAMILY = {"qlora": "lora"}


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes:
        subject: the slug of a method; of several, the fact is about any one of them ("IA³ or a small LoRA").
        relation: one of the constants above, such as :data:`FIRST`.
        object: the other side of the relation: a name, a range of numbers, or nothing.
        when: conditions under which it holds: the decision tree's questions by name, with the answers that qualify.
        holds: ``always`` or ``never`` under these conditions, or ``sometimes`` if the conditions do not decide it.
    """

    subject: tuple[str, ...]
    relation: str
    object: str | Numbers = ""
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()
    holds: Holds = "always"

    def __str__(self) -> str:
        about = " or ".join(self.subject)
        what = f"{self.object[0]:g} to {self.object[1]:g}" if isinstance(self.object, tuple) else self.object
        where = ", ".join(f"{name} {' or '.join(values)}" for name, values in self.when)
        return f"{about}: {self.holds} {self.relation} {what} ({where or 'everywhere'})"


def fact(
    subject: str | Iterable[str],
    relation: str,
    about: str | float | Numbers = "",
    holds: Holds = "always",
    /,
    **when: str | Iterable[str],
) -> Fact:
    """Return a fact. A single number becomes a range of one; a first choice implies that something is trained.

    >>> str(fact("lora", FIRST, tasks="many", kind="causal-lm"))
    'lora: always first choice  (base sixteen or four, kind causal-lm, prompting no, tasks many)'
    """
    given: dict[str, str | Iterable[str]] = dict(when)
    if relation == FIRST:
        given = {"prompting": "no", "base": ("sixteen", "four")} | given
    named = {name: (values,) if isinstance(values, str) else tuple(values) for name, values in given.items()}
    subjects = (subject,) if isinstance(subject, str) else tuple(subject)
    numbers = (float(about), float(about)) if isinstance(about, int | float) else about
    return Fact(subjects, relation, numbers, tuple(sorted(named.items())), holds)


def contradiction(one: Fact, other: Fact) -> bool:
    """Return whether two facts cannot both hold.

    Facts about situations that never occur together do not contradict each other.
    """
    if one.relation != other.relation or _apart(one.when, other.when):
        return False
    if one.relation in NUMERIC:
        return bool(set(one.subject) & set(other.subject)) and not _meet(one.object, other.object)
    if one.relation == FIRST and one.holds == other.holds == "always":
        return not _families(one) & _families(other)
    if one.object != other.object or not set(one.subject) & set(other.subject):
        return False
    if {one.holds, other.holds} == {"always", "never"}:
        return len(one.subject) == len(other.subject) == 1
    # what only sometimes is so under a condition is not always so under that condition, or a wider one
    open_one, firm = (one, other) if one.holds == "sometimes" else (other, one)
    return open_one.holds == "sometimes" != firm.holds and _within(open_one.when, firm.when)


def contradictions(stated: Mapping[str, Iterable[Fact]]) -> list[str]:
    """Return a sentence for every pair of facts that contradict each other.

    Args:
        stated: the facts by the name of the text that states them.
    """
    facts = [(name, each) for name, every in stated.items() for each in every]
    return [
        f"{first} ({one}) against {second} ({other})"
        for (first, one), (second, other) in combinations(facts, 2)
        if contradiction(one, other)
    ]


When = tuple[tuple[str, tuple[str, ...]], ...]


def _apart(one: When, other: When) -> bool:
    known = dict(other)
    return any(name in known and not set(values) & set(known[name]) for name, values in one)


def _within(narrow: When, wide: When) -> bool:
    known = dict(narrow)
    return all(name in known and set(known[name]) <= set(values) for name, values in wide)


def _meet(one: str | Numbers, other: str | Numbers) -> bool:
    assert isinstance(one, tuple) and isinstance(other, tuple)
    return max(one[0], other[0]) <= min(one[1], other[1])


def _families(one: Fact) -> set[str]:
    return {_FAMILY.get(name, name) for name in one.subject}
