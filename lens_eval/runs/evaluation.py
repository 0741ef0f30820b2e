"""The lm_eval side of a run: find tasks, load a model once, evaluate one task into one folder."""

from __future__ import annotations

import gc
import gzip
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError
from lens_eval.base.files import make_folder
from lens_eval.base.identity import environment
from lens_eval.base.paths import Paths
from lens_eval.base.redaction import hide, without_secrets
from lens_eval.base.templates import rendered
from lens_eval.runs.answer_language import measure
from lens_eval.runs.asking import Asking
from lens_eval.runs.recipe import Backend
from lens_eval.runs.task_index import EvalTask
from lens_eval.upstream.evaluation import NoManager, no_work_twice, quiet
from lens_eval.upstream.responses import Keep, keeping

CUT_SHARE = 0.01
"""Share of cut prompts above which a cell fails."""


class Evaluator:
    """One model loaded once, evaluated on one task after the other."""

    def __init__(
        self,
        model_args: Mapping[str, Any],
        backend: Backend,
        device: str,
        label: str,
        seed: int,
        paths: Paths,
    ) -> None:
        """Load the model.

        Args:
            model_args: lm_eval's arguments that name the model (`pretrained`, `peft`).
            label: the name of the model in results files, in place of its path.
        """
        from lm_eval.api.registry import get_model

        self.backend = backend
        self.label = label
        self.seed = seed
        self.paths = paths
        self.device = _device(device) if backend.model == "hf" else None
        self.model_args = {**backend.args, **model_args}
        self.ask: Asking | None = None
        """What is put beside the messages of the next task."""
        self.asked = ""
        """How a variant is asked, in its word, for the results."""
        self.tokens: dict[str, int] = {}
        """Of the last evaluation, if the model is behind an endpoint: prompt and completion."""
        name = backend.model
        if name == "hf":
            import lens_eval.backends.decoded
            import lens_eval.backends.steered

            kinds = {"steering": "lens_steered", "decoding": "lens_decoded"}
            name = next((kinds[kind] for kind in kinds if kind in model_args), "lens_hf")
        if name == "vllm":
            name = "lens_vllm"
            # Its processes write to the terminal over the one live line of this program.
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
            with quiet():
                import lens_eval.backends.vllm
        if name == "endpoint":
            name = "lens_endpoint"
            import lens_eval.backends.endpoint  # noqa: F401
        backend_class = keeping(get_model(name))
        # So that `close`, looking for what the model leaves behind, need not look through all libraries too.
        gc.freeze()
        with quiet():
            self._lm = backend_class.create_from_arg_obj(
                dict(self.model_args),
                {"batch_size": backend.batch_size, "max_batch_size": None, "device": self.device},
            )
            self._require_system()

    def _require_system(self) -> None:
        """Refuse a template that leaves out the system message that the run asks for.

        Raises:
            UserError: it does, or it fails.
        """
        system = self.backend.system_instruction
        if not system or not self._uses_template() or self.backend.model == "endpoint":
            return
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hello"}]
        try:
            rendered(lambda: self._lm.apply_chat_template(messages), messages, self.label, system=True)
        except UserError as error:
            raise UserError(f"{error}; leave system_instruction out, or take another template") from None

    def go_on_as(self, model_args: Mapping[str, Any], label: str, seed: int) -> bool:
        """Be another variant of the loaded backbone, with another adapter or steering; see `__init__`.

        Returns whether that can be done without loading it anew. Nothing is changed where it cannot.
        """
        wanted = {**self.backend.args, **model_args}
        adapter, steering = wanted.get("lora_local_path"), wanted.get("steering")
        if _without_variant(wanted) != _without_variant(self.model_args):
            return False
        if not hasattr(self._lm, "use") or not self._lm.fits(adapter, steering):
            return False
        with quiet():
            self._lm.use(adapter, steering)
        self.model_args, self.label, self.seed = wanted, label, seed
        return True

    def evaluate(
        self,
        task: EvalTask,
        folder: Path,
        limit: float | None,
        key: str,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> float:
        """Evaluate one task; `folder` then holds lm_eval's `results_*.json` and `samples_*.jsonl.gz`.

        The folder appears complete or not at all. Meanwhile generated responses are kept beside it, batch by
        batch, under `key`: what decides them. `on_progress` is told the share done.

        Returns the seconds spent in the model.
        """
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker

        aside = folder.with_name(folder.name + ".partial")
        shutil.rmtree(aside, ignore_errors=True)
        make_folder(folder.parent, below=folder.parent.parent)
        aside.unlink(missing_ok=True)
        aside.mkdir(parents=True)
        tracker = EvaluationTracker(output_path=str(aside / "results.json"))
        keep = Keep(folder, key, self.seed)
        before, self._lm.cut = self._lm.seconds, frozenset()
        asked = self._tokens()
        self._lm.ask = self._asking(task.name)
        with quiet(on_progress), no_work_twice(_environment()), self._lm.keeping(keep):
            results = simple_evaluate(
                model=self._lm,
                model_args=dict(self.model_args),
                tasks=[task.task],
                task_manager=NoManager(),
                num_fewshot=self.backend.num_fewshot,
                batch_size=self.backend.batch_size,
                device=self.device,
                limit=limit,
                evaluation_tracker=tracker,
                system_instruction=self.backend.system_instruction,
                apply_chat_template=self._uses_template(),
                gen_kwargs=dict(self.backend.gen_kwargs) or None,
                random_seed=self.seed,
                numpy_random_seed=self.seed,
                torch_random_seed=self.seed,
            )
            assert results is not None
            self._check_cut(results, task)
            measure(results, task.task)
            self._note(results["config"], asked)
            self._save(results, tracker, task, aside)
        old = folder.with_name(folder.name + ".old.partial")
        shutil.rmtree(old, ignore_errors=True)
        if os.path.lexists(folder):
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        keep.remove()
        return self._lm.seconds - before

    def _asking(self, task: str) -> Asking | None:
        """What is put beside the messages of a task.

        Raises:
            UserError: there are no messages, since prompts are not rendered by a template.
        """
        if self.ask is not None and not self._uses_template():
            raise UserError(f"{task}: {self.label} has no chat template, so {self.asked} cannot ask it")
        return self.ask

    def _note(self, config: dict[str, Any], before: Mapping[str, int]) -> None:
        """Write into the results how the model was asked, and for how many tokens since `before`."""
        if self.asked:
            config["asked"] = self.asked
        self.tokens = {name: count - before[name] for name, count in self._tokens().items()}
        if self.tokens:
            config["tokens"] = self.tokens

    def _tokens(self) -> dict[str, int]:
        """What an endpoint has counted so far; nothing of a model that is here."""
        return dict(getattr(self._lm, "tokens", {}))

    def _check_cut(self, results: Any, task: EvalTask) -> None:
        """Note how many prompts were cut.

        Raises:
            UserError: more than `CUT_SHARE` of the items, and the settings do not allow it.
        """
        cut, items = len(self._lm.cut), len(results["samples"][task.name])
        results["config"]["cut_prompts"] = min(cut, items)
        if cut > CUT_SHARE * items and not self.backend.allow_cut_prompts:
            raise UserError(
                f"{min(cut, items)} of {items} prompts do not fit in the context and were cut; "
                "give the model a larger max_length, let it write less (max_gen_toks), "
                "or allow it (allow_cut_prompts)"
            )

    def _save(self, results: Any, tracker: Any, task: EvalTask, folder: Path) -> None:
        samples = results.pop("samples")[task.name]
        results["config"]["model"] = self.backend.model
        config = tracker.general_config_tracker
        config.model_source = self.backend.model
        config.model_name = self.label
        config.model_name_sanitized = re.sub(r"[^\w.-]", "_", self.label)
        results = without_secrets(self.paths.clean(results))
        tracker.save_results_aggregated(results=results, samples={task.name: samples})
        tracker.save_results_samples(task_name=task.name, samples=samples)
        _check_and_pack(folder, task, len(samples))

    @property
    def model(self) -> Any:
        """lm_eval's model."""
        return self._lm

    def _uses_template(self) -> bool | str:
        if self.backend.model == "endpoint":
            return True
        if self.backend.apply_chat_template != "auto":
            return self.backend.apply_chat_template
        return bool(getattr(getattr(self._lm, "tokenizer", None), "chat_template", None))

    def close(self) -> None:
        """Give the model's memory back."""
        import torch

        # vLLM's processes end here and not at exit, where they can abort this one.
        getattr(self._lm, "close", lambda: None)()
        del self._lm
        gc.collect()
        gc.unfreeze()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _without_variant(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """What names the backbone and how it is loaded."""
    own = ("lora_local_path", "max_lora_rank", "steering")
    return {key: value for key, value in model_args.items() if key not in own}


def _device(device: str) -> str:
    from lens_train.devices import resolve_device

    return str(resolve_device(device))


@lru_cache(maxsize=1)
def _environment() -> dict[str, Any]:
    return environment()


def stopwatch() -> Callable[[], float]:
    """Seconds since the call."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start


def _check_and_pack(folder: Path, task: EvalTask, count: int) -> None:
    """lm_eval logs a failed write and goes on: make sure that all is there; then compress the samples.

    Raises:
        OSError: a file is missing or short (a full disk, as a rule).
    """
    results = list(folder.glob("results_*.json"))
    samples = list(folder.glob("samples_*.jsonl"))
    if len(results) != 1 or len(samples) != 1:
        raise OSError(f"lm_eval could not save the results of {task.name} (is the disk full?)")
    json.loads(results[0].read_text(encoding="utf-8"))
    raw = samples[0].read_bytes()
    saved = raw.count(b"\n")
    if saved != count:
        raise OSError(f"lm_eval saved {saved} samples of {count} of {task.name} (is the disk full?)")
    # Neither time nor name in the header: the same samples are the same file on every run.
    packed = gzip.compress(hide(raw.decode("utf-8")).encode("utf-8"), mtime=0)
    samples[0].with_name(samples[0].name + ".gz").write_bytes(packed)
    samples[0].unlink()
