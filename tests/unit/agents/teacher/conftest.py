"""A model of milliseconds and a toy market for the teacher's tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mmsim.records import OBSERVATION


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `save_pretrained` writes it: two Llama layers, a tokenizer of single bytes."""
    torch = pytest.importorskip("torch", reason="torch is not installed (make setup)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (make teacher)")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<eos>": 0} | {c: i for i, c in enumerate(alphabet, start=1)}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=len(vocab), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
                bos_token_id=0, eos_token_id=0, pad_token_id=0, initializer_range=0.2,
            )
        ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def toy_raw() -> Callable[..., npt.NDArray[np.void]]:
    """`make(n, seed)`: raw observations of a market whose imbalance drives its mid."""

    def make(n: int, seed: int = 0) -> npt.NDArray[np.void]:
        rng = np.random.default_rng(seed)
        raw = np.zeros(n, OBSERVATION)
        imb, vol, bid = 0.0, 0.0, 3500
        for t in range(n):
            imb = 0.9 * imb + 0.4 * rng.standard_normal()
            vol = 0.97 * vol + 0.2 * rng.standard_normal()
            bid += int(
                np.clip(np.round(0.5 * np.exp(0.5 * vol) * (np.tanh(imb) + rng.standard_normal())), -3, 3)
            )
            spread = 1 + int(rng.poisson(0.4 * np.exp(vol)))
            sizes = np.maximum(
                1, 20 * np.exp(0.4 * rng.standard_normal((2, 5))) * np.exp([[0.6 * imb], [-0.6 * imb]])
            )
            row = raw[t]
            row["ts"] = row["exch_ts"] = t * 500_000_000
            row["step"] = t
            row["n_bid"] = row["n_ask"] = 5
            row["bid_pxs"][:5] = bid - np.arange(5)
            row["ask_pxs"][:5] = bid + spread + np.arange(5)
            row["bid_qtys"][:5], row["ask_qtys"][:5] = sizes.astype(int)
            for side in ("bid", "ask"):
                row[f"{side}_px"], row[f"{side}_qty"] = row[f"{side}_pxs"][0], row[f"{side}_qtys"][0]
            row["buy_qty"], row["sell_qty"] = rng.poisson(5 * np.exp(0.5 * vol + np.array([0.4, -0.4]) * imb))
        return raw

    return make
