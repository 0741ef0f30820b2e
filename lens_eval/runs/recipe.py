"""A recipe: one YAML file that says what to train, what to evaluate, and on what.

Everything is checked when the file is read, before any work: an unknown key, method or language
is an error that names the known ones. Task names are checked by the runner, which asks lm_eval.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lens_eval.base.errors import UserError, did_you_mean
from lens_eval.base.project import ROOT
from lens_eval.base.redaction import note_settings
from lens_eval.runs.values import boolean, known_keys, mapping, strings, whole

BACKENDS = ("hf", "vllm", "endpoint")
ANY_BACKEND = ("dtype", "revision", "enable_thinking", "think_end_token", "chat_template_args")
"""Arguments of a model that every backend knows by the same name."""
RESERVED = (
    "models",
    "errors",
    "run.json",
    "training.json",
    "report.html",
    "made.md",
    *(f"table.{ending}" for ending in ("md", "csv", "tex", "json")),
)
_TOP = (
    "name",
    "description",
    "simulated",
    "backbone",
    "central",
    "languages",
    "data",
    "variants",
    "tasks",
    "include_path",
    "backend",
    "seeds",
    "limit",
    "output",
)
_DATA = ("train", "dev")
_BACKEND = (
    "model",
    "args",
    "batch_size",
    "gen_kwargs",
    "apply_chat_template",
    "system_instruction",
    "num_fewshot",
    "allow_cut_prompts",
)
ASKING = ("prompted", "few_shot")
"""How the same model can be asked to answer in the language."""
_NOT_SETTINGS = ("method", "model", "adapter", "data", "optional")


@dataclass(frozen=True)
class VariantSpec:
    """One row of the table: a method applied to the backbone, or a model as it is."""

    name: str
    method: str | None = None
    """A training method (`lens_train.methods.METHODS`, or `module:function`); None: the model as it is."""
    model: str | None = None
    """Hub id or folder where it is not the recipe's backbone; only without `method`."""
    adapter: str | None = None
    """PEFT adapter to load on `model`; only without `method`."""
    data: str | None = None
    """Parallel data of this variant where it is not the recipe's."""
    ask: str | None = None
    """`prompted` or `few_shot` (`lens_eval.runs.asking`); only without `method`."""
    shots: int = 3
    """Examples before a question; only with `ask: few_shot`."""
    optional: bool = False
    """Left out, and said to be, where the environment variable that names its data is not set."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings, checked by the method."""


@dataclass(frozen=True)
class Backend:
    """How lm_eval runs a model; the same for every variant of a recipe."""

    model: str = "hf"
    args: Mapping[str, Any] = field(default_factory=dict)
    """lm_eval's `--model_args` without the model itself, e.g. `dtype: bfloat16`; for hf also `stop_loops`."""
    batch_size: int | str = 1
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    apply_chat_template: bool | str = "auto"
    """`auto`: where the tokenizer has a template; any other text: the name of one of its templates."""
    system_instruction: str | None = None
    num_fewshot: int | None = None
    """None: what each task says."""
    allow_cut_prompts: bool = False
    """Whether a cell counts though more than 1% of its prompts were cut to fit the context."""

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit of the models, if they are on the hub; None: the main one."""
        given = self.args.get("revision")
        return None if given is None else str(given)


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; paths in it are absolute, hub ids and `builtin` names are kept.

    A path whose environment variable is not set keeps its `$NAME`, so that a recipe can be read and planned
    without the data; `unset_variable` finds it before work starts.
    """

    name: str
    backbone: str
    languages: tuple[str, ...]
    variants: tuple[VariantSpec, ...]
    tasks: tuple[str, ...]
    central: str = "en"
    description: str = ""
    simulated: bool = False
    """True where models and items are self-made: said on every table."""
    train_data: str | None = None
    dev_data: str | None = None
    include_path: tuple[str, ...] = ()
    """More folders with lm_eval task files."""
    backend: Backend = field(default_factory=Backend)
    seeds: tuple[int, ...] = (0,)
    """Training seeds; a model that is not trained is evaluated once."""
    limit: int | float | None = None
    """Items per task; below 1 the share of them; None for all."""
    output: str | None = None
    """Folder of the run; `results/<name>` where nothing is said."""

    @property
    def reference(self) -> str:
        """The variant that others are compared with: the bare backbone where there is one, else the first."""
        bare = [v.name for v in self.variants if v.method is v.adapter is v.model is v.ask is None]
        return (bare or [self.variants[0].name])[0]


@dataclass(frozen=True)
class Row:
    """One row of the table: a variant, and the seed it is trained with."""

    name: str
    spec: VariantSpec
    seed: int

    @property
    def trained(self) -> bool:
        """Whether a method makes this variant."""
        return self.spec.method is not None


def rows_of(recipe: Recipe) -> list[Row]:
    """Rows in the order of the recipe; a trained variant has one per seed, any other one in all."""
    rows = []
    for spec in recipe.variants:
        seeds = recipe.seeds if spec.method else recipe.seeds[:1]
        for seed in seeds:
            name = f"{spec.name}-seed{seed}" if len(seeds) > 1 else spec.name
            rows.append(Row(name, spec, seed))
    return rows


def output_of(recipe: Recipe, output: Path | None) -> Path:
    """The folder of a run."""
    return output or Path(recipe.output or f"results/{recipe.name}")


def recipe_folders() -> list[Path]:
    """Where a recipe is looked for by name: `recipes` here, in the checkout, or as installed."""
    return [Path("recipes"), ROOT / "recipes", ROOT / "lens_eval" / "recipes"]


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe, given as a path or, as in `demo`, by its name.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():  # a pipe too
        return path
    known = {
        file.stem: file for folder in reversed(recipe_folders()) for file in sorted(folder.glob("*.yaml"))
    }
    asked = path.name.removesuffix(".yaml")
    if len(path.parts) == 1 and asked in known:
        return known[asked]
    hint = f"; known by name: {', '.join(sorted(known))}" if known else ""
    raise UserError(f"no recipe {path}{did_you_mean(asked, known)}{hint}")


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe file, or a recipe that comes with the project, by its name.

    Raises:
        UserError: no such file, not YAML, or a key, method, language or value that does not exist.
    """
    path = find_recipe(path)
    from lens_eval.base import settings_files

    raw = settings_files.read(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a recipe is a mapping of settings, this holds {type(raw).__name__}")
    return parse_recipe(raw, where=str(path), folder=path.resolve().parent, default_name=path.stem)


def with_changes(
    recipe: Recipe,
    *,
    limit: float | None = None,
    backbone: str | None = None,
    backend: str | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe with what the command line says otherwise.

    Another backend keeps `dtype` and what concerns the chat template; the other arguments are words that
    only the first one knows.
    """
    changes: dict[str, Any] = {}
    if limit is not None:
        if not 0 < limit < 1e12:
            raise UserError(f"--limit is {limit:g}; name a number of items per task, or a share of them")
        changes["limit"] = limit if limit < 1 else int(limit)
    if backbone is not None:
        changes["backbone"] = backbone
    changed = recipe.backend
    if backend is not None and backend != changed.model:
        kept = {key: value for key, value in changed.args.items() if key in ANY_BACKEND}
        # hf's `auto` tries out what a GPU holds; on a CPU that costs more than it saves.
        batch = changed.batch_size if backend == "vllm" or changed.batch_size != "auto" else 8
        changed = replace(changed, model=backend, args=kept, batch_size=batch)
    if gen_kwargs:
        changed = replace(changed, gen_kwargs={**changed.gen_kwargs, **gen_kwargs})
    return replace(recipe, backend=changed, **changes)


def parse_recipe(
    raw: Mapping[str, Any], *, where: str = "recipe", folder: Path | None = None, default_name: str = "run"
) -> Recipe:
    """Check a recipe given as a mapping; relative paths in it are taken from `folder`.

    Raises:
        UserError: as `load_recipe`.
    """
    note_settings(raw)
    known_keys(raw, _TOP, where)
    for key in ("backbone", "languages", "variants", "tasks"):
        if not raw.get(key):
            raise UserError(
                f"{where}: `{key}` is missing; a recipe needs backbone, languages, variants and tasks"
            )
    folder = folder or Path.cwd()
    data = mapping(raw.get("data"), f"{where}: data")
    known_keys(data, _DATA, f"{where}: data")
    train_data = _path(data.get("train"), folder, f"{where}: data.train")
    languages = _languages(raw["languages"], f"{where}: languages")
    central = _languages([raw.get("central", "en")], f"{where}: central")[0]
    if central not in languages:
        raise UserError(
            f"{where}: the central language {central} is not among languages {', '.join(languages)}"
        )
    variants = tuple(
        _variant(str(name), spec, f"{where}: variants.{name}", folder, train_data)
        for name, spec in mapping(raw["variants"], f"{where}: variants").items()
    )
    recipe = Recipe(
        name=_plain_name(str(raw.get("name", default_name)), f"{where}: name"),
        description=str(raw.get("description", "")),
        simulated=boolean(raw.get("simulated", False), f"{where}: simulated"),
        backbone=_model(raw["backbone"], folder),
        central=central,
        languages=languages,
        train_data=train_data,
        dev_data=_path(data.get("dev"), folder, f"{where}: data.dev"),
        variants=variants,
        tasks=strings(raw["tasks"], f"{where}: tasks"),
        include_path=tuple(
            _path(p, folder, f"{where}: include_path") or ""
            for p in strings(raw.get("include_path") or (), f"{where}: include_path")
        ),
        backend=_backend(mapping(raw.get("backend"), f"{where}: backend"), f"{where}: backend"),
        seeds=tuple(whole(s, f"{where}: seeds", 0) for s in raw.get("seeds") or (0,)),
        limit=None if raw.get("limit") is None else whole(raw["limit"], f"{where}: limit", 1),
        output=None if raw.get("output") is None else str(raw["output"]),
    )
    _check_rows(recipe, where)
    return recipe


def _check_rows(recipe: Recipe, where: str) -> None:
    """Refuse two rows that would write into one folder, on disks that know no case too."""
    names: dict[str, str] = {}
    for row in rows_of(recipe):
        before = names.setdefault(row.name.casefold(), row.spec.name)
        if before != row.spec.name or [r.name for r in rows_of(recipe)].count(row.name) > 1:
            raise UserError(
                f"{where}: two rows would be called {row.name} (variants {before} and {row.spec.name}, seeds "
                f"{', '.join(map(str, recipe.seeds))}); rename a variant, and name each seed once"
            )


def _variant(name: str, raw: Any, where: str, folder: Path, train_data: str | None) -> VariantSpec:
    spec = mapping(raw, where)
    if _plain_name(name, where) in RESERVED:
        raise UserError(f"{where}: the name {name} is taken by the run itself; choose another")
    method = spec.get("method")
    if method is None:
        known_keys(spec, ("method", "model", "adapter", "ask", "shots", "data"), where)
        return VariantSpec(
            name,
            **_asked(spec, where),
            data=_path(spec.get("data"), folder, f"{where}: data"),
            model=None if spec.get("model") is None else _model(spec["model"], folder),
            adapter=None if spec.get("adapter") is None else _model(spec["adapter"], folder),
        )
    from lens_train.methods import METHODS as known
    from lens_train.methods import method_of

    if method not in known and ":" not in str(method):
        raise UserError(
            f"{where}: unknown method {method!r}{did_you_mean(str(method), known)}; "
            f"known: {', '.join(known)}, or your own as module:function"
        )
    for key in ("model", "adapter", "ask"):
        if key in spec:
            raise UserError(
                f"{where}: `{key}` and `method` exclude each other: a method is applied to the backbone"
            )
    data = _path(spec.get("data"), folder, f"{where}: data")
    if not (data or train_data):
        raise UserError(f"{where}: method {method} needs parallel data; say data.train in the recipe")
    is_path = method_of(str(method)).is_path
    settings = {
        str(key): _path(value, folder, f"{where}: {key}") if is_path(str(key), value) else value
        for key, value in spec.items()
        if key not in _NOT_SETTINGS
    }
    optional = boolean(spec.get("optional", False), f"{where}: optional")
    return VariantSpec(name, method=str(method), data=data, optional=optional, settings=settings)


def _asked(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`ask` and `shots` of a variant that is not trained."""
    ask = spec.get("ask")
    if ask is not None and ask not in ASKING:
        raise UserError(
            f"{where}: unknown ask {ask!r}{did_you_mean(str(ask), ASKING)}; known: {', '.join(ASKING)}"
        )
    for key in ("shots", "data"):
        if key in spec and ask != "few_shot":
            raise UserError(f"{where}: `{key}` goes with `ask: few_shot`, or with a method")
    return {"ask": ask, "shots": whole(spec.get("shots", 3), f"{where}: shots", 1)}


def _backend(raw: Mapping[str, Any], where: str) -> Backend:
    known_keys(raw, _BACKEND, where)
    model = raw.get("model", "hf")
    if model not in BACKENDS:
        raise UserError(
            f"{where}: unknown backend {model!r}{did_you_mean(str(model), BACKENDS)}; "
            f"known: {', '.join(BACKENDS)}"
        )
    args = dict(mapping(raw.get("args"), f"{where}.args"))
    for key in ("pretrained", "peft", "lora_local_path"):
        if key in args:
            raise UserError(
                f"{where}.args: `{key}` is set by the runner for each variant; name models under `variants`"
            )
    if "stop_loops" in args:
        if model != "hf":
            raise UserError(f"{where}.args: `stop_loops` is a setting of the backend hf, not of {model}")
        boolean(args["stop_loops"], f"{where}.args.stop_loops")
    template = raw.get("apply_chat_template", "auto")
    if template != "auto":
        template = boolean(template, f"{where}.apply_chat_template (true, false or auto)")
    batch = raw.get("batch_size", 1)
    if not (isinstance(batch, str) and batch.startswith("auto")):
        batch = whole(batch, f"{where}.batch_size", 1)
    fewshot = raw.get("num_fewshot")
    return Backend(
        model=model,
        args=args,
        batch_size=batch,
        gen_kwargs=dict(mapping(raw.get("gen_kwargs"), f"{where}.gen_kwargs")),
        apply_chat_template=template,
        system_instruction=raw.get("system_instruction"),
        allow_cut_prompts=boolean(raw.get("allow_cut_prompts", False), f"{where}.allow_cut_prompts"),
        num_fewshot=None if fewshot is None else whole(fewshot, f"{where}.num_fewshot", 0),
    )


def _languages(raw: Any, where: str) -> tuple[str, ...]:
    # YAML 1.1 reads the Norwegian code `no` as false.
    if isinstance(raw, list):
        raw = ["no" if item is False else item for item in raw]
    try:
        codes = tuple(language_code(code) for code in strings(raw, where))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return tuple(dict.fromkeys(codes))


def language_code(code: str) -> str:
    """The project's code of one language.

    Raises:
        UserError: it is unknown, or several codes stand in one text: all but the first would be lost.
    """
    from lens_eval.language.languages import find_code, normalise_code

    parts = re.split(r"[\s.]+", code.strip())
    if len(parts) > 1 and len(parts[0]) <= 3 and any(find_code(part) for part in parts[1:]):
        raise UserError(f"{code!r} is no language code; separate codes with commas: {','.join(parts)}")
    return normalise_code(code)


def _plain_name(name: str, where: str) -> str:
    """Names become folders: letters, digits, `_`, `-`, `.`, and no leading dot."""
    if not name or name.startswith(".") or not all(c.isalnum() or c in "_-." for c in name):
        raise UserError(f"{where}: {name!r} cannot name a folder; use letters, digits, `_`, `-` and `.`")
    return name


def _path(raw: Any, folder: Path, where: str) -> str | None:
    """A data path: `builtin...` as it is, otherwise `~` and `$NAME` expanded and taken from `folder`.

    What a variable holds was written in a shell: it is taken from the current folder, as everywhere.
    """
    if raw is None:
        return None
    if not isinstance(raw, str):
        raise UserError(f"{where}: expected a path, found {raw!r}")
    text = os.path.expandvars(os.path.expanduser(raw))  # noqa: PTH111
    if text.partition(":")[0] == "builtin" or unset_variable(text):
        return text
    return os.path.normpath((Path.cwd() if raw.startswith("$") else folder) / text)


def unset_variable(path: str | None) -> str | None:
    """The environment variable in `path` that is not set; None where there is none."""
    found = re.search(r"\$(?:\{(\w+)\}|(\w+))", path or "")
    return (found[1] or found[2]) if found else None


def require_set(path: str, where: str) -> None:
    """Refuse a path with an environment variable that is not set.

    Raises:
        UserError: naming the variable.
    """
    variable = unset_variable(path)
    if variable:
        raise UserError(
            f"{where}: {path} names the environment variable {variable}, which is not set; "
            f"the recipe's comments say what it is to hold: export {variable}=FOLDER"
        )


def _model(raw: Any, folder: Path) -> str:
    """A model: a path where it looks like one (`./`, `../`, `/`, `~`, `*.gguf`), else a hub id, `builtin`."""
    if not isinstance(raw, str):
        raise UserError(f"a recipe names a model by its id or path, as text; found {raw!r}")
    text = os.path.expandvars(os.path.expanduser(raw))  # noqa: PTH111
    is_path = text.startswith((".", "/")) or text.lower().endswith(".gguf")
    return os.path.normpath(folder / text) if is_path else text
