"""Score a model on held-out rows, and ask it the learner's own sentences."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.models import loading
from peft_lab.models.loading import TemplateError
from peft_lab.training import batches
from peft_lab.training.batches import IGNORED, Encoded
from peft_lab.training.tasks.base import Row, Task, Turns
from peft_lab.training.tasks.tags import OUTSIDE, tagged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# ----------------------------------------
# The results of examining a model: held-out scores, and answers to the learner's own sentences.


@dataclass(frozen=True)
class ModelAnswer:
    """A model's answer to one probe. ``scores``: probability by label, empty for generated or tagged text."""

    text: str
    answer: str
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Held-out results of one model. ``metrics``: from 0 to 1, by name. ``loss``: mean per row or per label token."""

    metrics: dict[str, float]
    loss: float
    rows: int
    seconds: float


ROWS_AT_ONCE = {"classification": 64, "tagging": 64, "generation": 32, "chat": 32}
#: Receives how many rows are answered, of how many, and how many answers are right; None if they are right by degrees.
Report = Callable[[int, int, int | None], None]
#: Receives answers that have ended while others are still being written, by their place in the batch.
Hear = Callable[[Mapping[int, str]], None]
#: What a model is asked: a text, or the messages of a conversation.
Asked = str | Turns


def silent(done: int, total: int, right: int | None) -> None:
    """A report to nobody."""


def question(row: Row) -> Asked:
    """Return the model's input for a row: its text, or a chat's messages before the last answer."""
    return row.turns or row.text


@contextmanager
def one_product(model: Any) -> Iterator[None]:
    """Make the output head's input contiguous. A generation slices out the last position of every row; without
    gradients torch multiplies a slice row by row and copies the head, a model's largest matrix, each time."""
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class Examiner:
    """Asks and scores models on one task. ``start``: the first decoder token of an encoder-decoder."""

    task: Task
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    device: str
    start: int | None = None

    def evaluate(self, model: torch.nn.Module, rows: Sequence[Row], report: Report = silent) -> Evaluation:
        """The task's metrics and the mean loss over ``rows``. ``report`` is called as rows are answered."""
        start = time.perf_counter()
        model.eval()
        encoded = batches.encode(self.task, rows, self.tokenizer, self.max_length, self.start)
        given: dict[int, str] = {}
        right: set[int] | None = None if self.task.kind == "chat" else set()
        score = self.task.score
        losses: list[tuple[float, int]] = []

        def take(answers: Mapping[int, str]) -> None:
            given.update(answers)
            if right is not None:
                right.update(n for n in answers if score([answers[n]], [rows[n]])[self.task.metric] == 1)
            report(len(given), len(rows), None if right is None else len(right))

        take({})
        with torch.no_grad():
            for numbers in self._groups(encoded):
                batch = batches.collate([encoded[number] for number in numbers], self.pad, self.device)

                def hear(ended: Mapping[int, str], numbers: list[int] = numbers) -> None:
                    take({numbers[place]: answer for place, answer in ended.items()})

                asked = [question(rows[number]) for number in numbers]
                answers = self._answer(model, batch, asked, losses, hear)
                take(dict(zip(numbers, answers, strict=True)))
        metrics = self.task.score([given[number] for number in range(len(rows))], rows)
        weight = sum(amount for _, amount in losses)
        loss = sum(loss * amount for loss, amount in losses) / weight
        return Evaluation(metrics, loss, len(rows), time.perf_counter() - start)

    def answer(
        self, model: torch.nn.Module, texts: Sequence[Asked], guesses: Sequence[Sequence[str]] = ()
    ) -> list[ModelAnswer]:
        """Return the model's answer to each text: a label with all labels' probabilities, tagged or generated text.
        ``guesses``: for each text, likely answers; the closer, the sooner the same answer is written."""
        model.eval()
        answers = []
        with torch.no_grad():
            for number, request in enumerate(texts):
                text = request if isinstance(request, str) else request[-1][1]
                if self.task.writes:
                    # an encoder-decoder's answer is no continuation of its text
                    drafts = guesses[number] if guesses and self.start is None else ()
                    written = self._guessed(model, request, drafts)
                    answers.append(ModelAnswer(text, written.strip()))
                    continue
                inputs = self.prepare([request])
                logits = model(**inputs).logits.float()
                if self.task.per_token:
                    answers.append(ModelAnswer(text, self._tagged([text], logits, inputs)[0]))
                    continue
                scores = dict(zip(self.task.labels, logits[0].softmax(-1).tolist(), strict=True))
                answers.append(ModelAnswer(text, max(scores, key=lambda label: scores[label]), scores))
        return answers

    @property
    def pad(self) -> int:
        """Return the id of the padding token."""
        return loading.pad_token(self.tokenizer)

    @property
    def ends(self) -> Any:
        """Return the id or ids of the tokens at which an answer stops."""
        return batches.ends_of(self.tokenizer) if self.task.kind == "chat" else self.tokenizer.eos_token_id

    def _groups(self, encoded: Sequence[Encoded]) -> Iterator[list[int]]:
        """Yield row numbers in batches: first the first rows, which are a fair sample for an early figure, then rows
        of similar length."""
        size, numbers = ROWS_AT_ONCE[self.task.kind], range(len(encoded))
        order = [*numbers[:size], *sorted(numbers[size:], key=lambda number: len(encoded[number]))]
        return (order[first : first + size] for first in range(0, len(order), size))

    def _answer(
        self,
        model: torch.nn.Module,
        batch: dict[str, torch.Tensor],
        texts: Sequence[Asked],
        losses: list[tuple[float, int]],
        hear: Hear,
    ) -> list[str]:
        if not self.task.writes:
            read = {name: tensor for name, tensor in batch.items() if name != "labels"}
            logits, labels = model(**read).logits.float(), batch["labels"]
            chosen = batches.picked(labels)
            if chosen is None:
                losses.append((float(torch.nn.functional.cross_entropy(logits, labels)), len(texts)))
                return [self.task.labels[number] for number in logits.argmax(-1).tolist()]
            scored = logits[:, chosen.positions].flatten(0, 1)[chosen.tokens]
            loss = torch.nn.functional.cross_entropy(scored, chosen.targets)
            losses.append((float(loss), len(chosen.targets)))
            return self._tagged(list(map(str, texts)), logits, batch)
        answers = self._generate(model, texts, hear)  # before the loss: they are what one waits for
        losses.append((float(batches.loss_of(model, batch)), int((batch["labels"] != IGNORED).sum())))
        return answers

    def _tagged(
        self, texts: Sequence[str], logits: torch.Tensor, inputs: Mapping[str, torch.Tensor]
    ) -> list[str]:
        """Return the texts, tagged. ``logits``: (rows, positions, labels); virtual tokens precede a text's own."""
        chosen = logits[:, -inputs["input_ids"].shape[1] :].argmax(-1).tolist()
        word = self.task.word
        words = batches.word_tokens(self.tokenizer, texts, self.max_length, word)
        return [
            tagged(text, [OUTSIDE if at is None else self.task.labels[row[at]] for at in places], word)
            for text, row, (_, places) in zip(texts, chosen, words, strict=True)
        ]

    def prepare(self, texts: Sequence[Asked]) -> dict[str, torch.Tensor]:
        """Return the model's inputs for these texts: ids and mask of shape (texts, longest), prompts to continue padded
        on the left; for images pixel_values (images, channels, height, width)."""
        if self.task.images:
            named = [Row(str(text), self.task.labels[0]) for text in texts]
            encoded = batches.encode(self.task, named, self.tokenizer, self.max_length)
            return {"pixel_values": batches.collate(encoded, self.pad, self.device)["pixel_values"]}
        if not self.task.writes:
            made: Any = self.tokenizer(
                list(map(str, texts)),
                truncation=True,
                max_length=self.max_length,
                padding=True,
                return_tensors="pt",
            )
            room = self.max_length
        elif self.start is not None:
            made = self.tokenizer(list(map(str, texts)), padding=True, return_tensors="pt")
            room = self.max_length - 1
        else:
            prompts = [self._prompt(text) for text in texts]
            made = self.tokenizer(
                prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
            )
            room = self.max_length - 1
        return {name: made[name][:, -room:].to(self.device) for name in ("input_ids", "attention_mask")}

    def _prompt(self, request: Asked) -> str:
        try:
            if self.task.kind == "chat":
                turns = (("user", request),) if isinstance(request, str) else request
                return batches.write_chat(self.tokenizer, turns, opens=True)
            return batches.render(self.tokenizer, str(request))
        except TemplateError as error:
            raise BadInput(f"The model cannot answer: {error}.", "text") from None

    def reading(self, texts: Sequence[Asked]) -> dict[str, torch.Tensor]:
        """Return the inputs of one forward pass: :meth:`prepare`, and an encoder-decoder's first decoder token. Ids and
        mask of shape (texts, longest), the decoder's ids (texts, 1)."""
        made = self.prepare(texts)
        if self.start is not None:
            made["decoder_input_ids"] = made["input_ids"].new_full((len(texts), 1), self.start)
        return made

    def write(
        self, model: Any, inputs: Mapping[str, torch.Tensor], new: int, least: int = 0, **more: Any
    ) -> torch.Tensor:
        """Greedy continuations of at most ``new`` and at least ``least`` tokens: (rows, tokens), inputs left out."""
        with one_product(model):
            made = model.generate(
                **inputs,
                max_new_tokens=new,
                min_new_tokens=least or None,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.pad,
                eos_token_id=self.ends,
                **more,
            )
        return self._written(made, inputs)

    def _written(self, made: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        # Prompt methods return the new tokens after the prompt as it was given, like every other model; a decoder of
        # its own returns what it wrote after its first token.
        return made[:, inputs["input_ids"].shape[1] if self.start is None else 1 :]

    def _generate(self, model: Any, texts: Sequence[Asked], hear: Hear | None = None) -> list[str]:
        """Write an answer to each text. ``hear`` receives those that have ended, by their place, as they end."""
        inputs, ended = self.prepare(texts), set[int]()

        def watch(ids: torch.Tensor, _: object) -> torch.Tensor:
            written = self._written(ids, inputs)
            ends = torch.isin(written, torch.as_tensor(self.ends, device=ids.device)).any(-1)
            fresh = [place for place in ends.nonzero().flatten().tolist() if place not in ended]
            if fresh and hear is not None:
                ended.update(fresh)
                hear(dict(zip(fresh, self._decode(written[fresh]), strict=True)))
            return torch.zeros_like(ends)

        more: dict[str, Any] = {} if hear is None else {"stopping_criteria": [watch]}
        return self._decode(self.write(model, inputs, self.task.max_new_tokens, **more))

    def _guessed(self, model: Any, request: Asked, guesses: Sequence[str]) -> str:
        """Write an answer to one text: greedy speculative decoding (Leviathan et al. 2023) with one guess after the
        other as the draft.

        A forward pass over text and draft tells which token the model would write at each place of the draft. The
        tokens that agree are written, and the model's own token where they part; then the rest of the draft is tried.
        A draft of which a pass takes less than two tokens is given up. In bfloat16 a pass rounds differently from
        single tokens, so that of two tokens almost equally probable it may take the other one.
        """
        asked, new = self.prepare([request])["input_ids"], self.task.max_new_tokens
        ends = torch.as_tensor(self.ends).flatten().tolist()
        written: list[int] = []
        for guess in guesses:
            draft = self.tokenizer(guess, add_special_tokens=False)["input_ids"][:new] + ends[:1]
            draft = draft[len(written) :]
            while draft and set(ends).isdisjoint(written):
                ids = torch.cat([asked, asked.new_tensor([[*written, *draft]])], dim=1)
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
                best = logits[0, -len(draft) - 1 :].argmax(-1).tolist()
                agreed = next((at for at, token in enumerate(draft) if best[at] != token), len(draft))
                if agreed < 2:
                    break
                written += best[: agreed + 1]
                draft = draft[agreed + 1 :]
        if not written:
            return self._generate(model, [request])[0]
        if set(ends).isdisjoint(written) and len(written) < new:
            ids = torch.cat([asked, asked.new_tensor([written])], dim=1)
            rest = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            written += self.write(model, rest, new - len(written))[0].tolist()
        stop = next((at for at, token in enumerate(written) if token in ends), new)
        return self._decode(asked.new_tensor([written[: min(stop, new)]]))[0]

    def _decode(self, tokens: torch.Tensor) -> list[str]:
        return [str(text) for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
