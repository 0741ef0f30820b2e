"""Rebuild the built-in backbone: a tiny Llama that understands four languages and answers in English.

`python -m lens_eval.mini.build --output FOLDER` trains tokenizer and model from the world's own sentences
(`lens_eval.mini.world`) in two stages of fixed length, a few minutes on one core. The same machine
gives the same weights on every run.

1. Text: lines of one language, statements and questions about every fact, a larger share English.
2. Chat: every question of the world has one fixed reply; English questions an English one, others
   mostly an English one too. That habit is what makes the model English-centric. Asked for its own
   language in so many words ("Jibu kwa Kiswahili."), it gives it; no item of the tasks asks so.

The backbone thus knows all facts, those of the dev and test split included: the splits separate what
Lens and the baselines are trained on from what is measured, as with a real model's world knowledge.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lens_eval.base.progress import progress
from lens_eval.mini import wordings, world

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
IN_OWN_LANGUAGE = {"zh": "请用中文回答。", "sw": " Jibu kwa Kiswahili.", "ar": " أجب باللغة العربية."}
IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """Sizes, lengths and mixtures of the two stages."""

    seed: int = 0
    vocabulary: int = 1536
    hidden: int = 128
    layers: int = 6
    heads: int = 4
    inner: int = 384
    text_steps: int = 800
    text_batch: int = 16
    text_length: int = 64
    text_rate: float = 3e-3
    english_share: float = 0.34
    chat_steps: int = 1200
    chat_batch: int = 32
    chat_rate: float = 2e-3
    chat_english_share: float = 0.3
    chat_asked_share: float = 0.25
    """Share of questions that are in another language and ask for it in so many words."""
    own_language_share: float = 0.3
    """Share of the plain questions in another language that are answered in it, the rest in English."""


def build_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over every question and statement of the world, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BEGIN, END, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = [line for language in wordings.LANGUAGES for line in text_lines(language)]
    asked = [prompt for pairs in asked_pairs().values() for prompt, _ in pairs]
    tokenizer.train_from_iterator(lines + asked, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A freshly initialised Llama of the recipe's size."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def text_lines(language: str) -> list[str]:
    """In one language: every question followed by its statement, statements alone, and replies."""
    lines = []
    for fact in world.facts():
        statement = world.statement(fact, language)
        n_wordings = len(wordings.KINDS[fact.kind].questions[language])
        lines += [f"{world.question(fact, language, wording)} {statement}" for wording in range(n_wordings)]
        lines += [statement, world.reply(fact, language)]
    return lines


Pairs = dict[str, list[tuple[str, str]]]
"""Questions with their replies, by language of the question."""


def _questions(language: str) -> Iterator[tuple[world.Fact, str]]:
    for fact in world.facts():
        for wording in range(len(wordings.KINDS[fact.kind].questions[language])):
            yield fact, world.question(fact, language, wording)


def plain_pairs(recipe: Recipe) -> Pairs:
    """Every question of the world with its one reply, most of them English."""
    draw = random.Random(f"chat {recipe.seed}")
    pairs: Pairs = {language: [] for language in wordings.LANGUAGES}
    for language in wordings.LANGUAGES:
        for fact, question in _questions(language):
            own = draw.random() < recipe.own_language_share
            pairs[language].append((question, world.reply(fact, language if own else wordings.CENTRAL)))
    return pairs


def asked_pairs() -> Pairs:
    """Every question in another language that asks for a reply in it, and gets it."""
    return {
        language: [
            (question + request, world.reply(fact, language)) for fact, question in _questions(language)
        ]
        for language, request in IN_OWN_LANGUAGE.items()
    }


def _text_batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[torch.Tensor]:
    draw = random.Random(f"text {recipe.seed}")
    encoded = {
        language: [
            tokenizer(line + "\n", add_special_tokens=False)["input_ids"] for line in text_lines(language)
        ]
        for language in wordings.LANGUAGES
    }
    others = [language for language in wordings.LANGUAGES if language != wordings.CENTRAL]
    while True:
        rows = []
        for _ in range(recipe.text_batch):
            language = wordings.CENTRAL if draw.random() < recipe.english_share else draw.choice(others)
            row = [tokenizer.bos_token_id]
            while len(row) < recipe.text_length:
                row += draw.choice(encoded[language])
            rows.append(row[: recipe.text_length])
        yield torch.tensor(rows)


def _encode_pair(tokenizer: PreTrainedTokenizerFast, prompt: str, reply: str) -> tuple[list[int], int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    head = tokenizer(text, add_special_tokens=False)["input_ids"]
    tail = tokenizer(reply + END, add_special_tokens=False)["input_ids"]
    return head + tail, len(head)


def _chat_batches(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels, (batch, positions); only the reply and its end are learnt."""
    draw = random.Random(f"chat order {recipe.seed}")
    plain, asked = (
        {language: [_encode_pair(tokenizer, *pair) for pair in pairs] for language, pairs in made.items()}
        for made in (plain_pairs(recipe), asked_pairs())
    )
    shares = {"english": recipe.chat_english_share, "asked": recipe.chat_asked_share}
    shares["plain"] = 1 - sum(shares.values())
    while True:
        chosen = []
        for kind in draw.choices(list(shares), list(shares.values()), k=recipe.chat_batch):
            language = wordings.CENTRAL if kind == "english" else draw.choice(sorted(asked))
            chosen.append(draw.choice((asked if kind == "asked" else plain)[language]))
        width = max(len(ids) for ids, _ in chosen)
        batch = torch.full((len(chosen), width), tokenizer.pad_token_id)
        labels = torch.full_like(batch, IGNORED)
        for row, (ids, start) in enumerate(chosen):
            batch[row, : len(ids)] = torch.tensor(ids)
            labels[row, start : len(ids)] = batch[row, start : len(ids)]
        yield batch, labels


def _rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a cosine to zero."""
    warm = max(1, steps // 10)
    return (
        (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
    )


def _fit(
    model: LlamaForCausalLM,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    steps: int,
    rate: float,
    name: str,
) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, steps))
    for _, (batch, labels) in progress(zip(range(steps), batches, strict=False), label=name, total=steps):
        logits = model(input_ids=batch).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def build(output: Path, recipe: Recipe | None = None) -> None:
    """Train tokenizer and backbone and write the checkpoint folder `output`, which must not exist."""
    recipe = recipe or Recipe()
    tokenizer = build_tokenizer(recipe.vocabulary)
    model = build_model(recipe, tokenizer)
    text = ((batch, batch) for batch in _text_batches(recipe, tokenizer))
    _fit(model, text, recipe.text_steps, recipe.text_rate, "text")
    _fit(model, _chat_batches(recipe, tokenizer), recipe.chat_steps, recipe.chat_rate, "chat")
    aside = output.with_name(output.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / "model.safetensors").chmod(0o644)
    aside.replace(output)


def main() -> None:
    """Command line of the rebuild."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="new folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"{arguments.output} exists; name a new folder")
    torch.set_num_threads(1)
    build(arguments.output, Recipe(seed=arguments.seed))


if __name__ == "__main__":
    main()
