"""The teacher as an agent: a language model reads the market, the shared order rule quotes."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmsim.agent import Observation, Quotes, SessionContext
from mmsim.errors import ConfigError
from mmsim.paths import cache_home
from mmsim_agents.common.checkpoint import shipped
from mmsim_agents.common.maker import PredictiveMaker
from mmsim_agents.common.order_rule import RuleParams
from mmsim_agents.common.tasks import HORIZON, Prediction
from mmsim_agents.teacher.answers import Answer, AnswerCache
from mmsim_agents.teacher.heads import Heads
from mmsim_agents.teacher.model import TeacherModel, load_teacher
from mmsim_agents.teacher.prompt import (
    SHOWN,
    TEMPLATE,
    example_rows,
    json_prompt,
    parse_answer,
    prompt_key,
    render,
)

MODES = ("probe", "generate")


class Teacher(PredictiveMaker):
    """The language model itself, asked every `ask_every` decisions (mmsim's reconstruction).

    In between it keeps its last prediction and quotes anew by the order rule from the current book and
    inventory. Its answers are cached by the hash of the prompt (which holds public state only), with
    the time that the uncached call took: a second run is quick and reports the same latencies.

    Parameters
    ----------
    model : str, optional
        Local folder or hub name; None: what the checkpoint was made with (``probe``), or the packaged
        model (``generate``).
    ask_every : int
        Decisions between two questions; the default is the horizon of a prediction.
    mode : str
        ``probe`` reads hidden states through the checkpoint's ridge heads; ``generate`` lets the model
        write a JSON answer. An answer that cannot be parsed counts in `unparsable` and stands for "no
        change" until the next question.
    max_new_tokens : int
        Longest answer in ``generate`` mode.
    kappa, rho, max_units
        Constants of the order rule; None: those of the market's teacher or CMM card.

    Attributes
    ----------
    last_latency_ns : int or None
        Time of the (uncached) model call of the last decision; None if it did not ask.
    asks, unparsable : int
        Questions asked since this object was made, and how many of the replies were no answer.
    """

    name = "teacher"
    model: str | None = None
    ask_every: int = HORIZON
    mode: str = "probe"
    max_new_tokens: int = 40

    asks: int
    unparsable: int

    _latency_ns: int | None = None
    _model: TeacherModel | None = None
    _heads: Heads | None = None
    _answers: AnswerCache | None = None
    _place: tuple[Path, str] | None = None
    _prefix: str = ""

    def reset(self, ctx: SessionContext) -> None:
        """Read the heads of ``ctx.dataset`` and forget the last episode; the model loads when needed."""
        if self.mode not in MODES:
            raise ConfigError(f"Teacher.mode: expected one of {', '.join(MODES)}, was {self.mode!r}")
        if self.ask_every < 1:
            raise ConfigError(f"Teacher.ask_every: expected at least 1, was {self.ask_every}")
        place = (ctx.checkpoints or shipped(), ctx.dataset)
        if place != self._place:
            self.asks = self.unparsable = 0
            self._open(*place)
            self._place = place
        self._instrument = ctx.dataset
        self._unit = ctx.unit
        if self._heads is not None:
            self._instrument = str(self._heads.card["instrument"])
            if self._heads.card["unit"] != ctx.unit:
                raise ConfigError(
                    f"teacher of {ctx.dataset!r}: expected a unit of {self._heads.card['unit']} lots, as it was "
                    f"trained, was {ctx.unit}; run `mmsim train cmm --dataset {ctx.dataset}`"
                )
        self._rows: deque[npt.NDArray[np.void]] = deque(maxlen=SHOWN)
        self._wait = 0
        self._last: Prediction | None = None
        self._latency_ns = None
        super().reset(ctx)

    def _open(self, root: Path, dataset: str) -> None:
        if self._answers is None:
            self._answers = AnswerCache(cache_home() / "teacher" / "answers.sqlite3")
        if self.mode == "generate":
            # which weights answer is known only once they are loaded
            self._model = self._model or self._load(self.model, "auto")
            self._prefix = f"{self._model.model_id} generate {self.max_new_tokens}"
            return
        self._heads = Heads.load(root / dataset)
        card = self._heads.card
        if card["template"] != TEMPLATE:
            raise ConfigError(
                f"teacher of {dataset!r}: expected template {TEMPLATE!r}, was {card['template']!r}; "
                f"run `mmsim train cmm --dataset {dataset}`"
            )
        self._prefix = f"{card['model']} {self._heads.digest}"

    def _load(
        self, spec: str | None, dtype: str, random_weights: bool = False, seed: int = 0
    ) -> TeacherModel:
        model = load_teacher(spec, dtype, random_weights, seed)
        model.hidden([render(example_rows(), "x")])  # the first call is slow and would be no latency
        return model

    def _ready(self) -> TeacherModel:
        if self._model is None:
            if self._heads is None:
                raise ConfigError("teacher: expected a reset before the first question")
            card = self._heads.card
            self._model = self._load(
                self.model or card["spec"], card["dtype"], card["random_weights"], card["seed"]
            )
            if self._model.model_id != card["model"]:
                found, self._model = self._model.model_id, None
                raise ConfigError(
                    f"teacher: expected the model {card['model']} that its heads were fitted on, was {found}; "
                    f"train with --teacher, or set teacher.model"
                )
        return self._model

    def card_rule(self) -> RuleParams:
        """Return the order rule's constants of the teacher's card, else of the market's CMM card."""
        card = self._heads.card if self._heads is not None else {}
        if "rule" not in card and self._place is not None:
            path = self._place[0] / self._place[1] / "cmm.json"
            try:
                card = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, json.JSONDecodeError):
                card = {}
        return RuleParams(**card["rule"]) if "rule" in card else RuleParams()

    @property
    def last_latency_ns(self) -> int | None:
        """Time of the model call of the last decision, ns; None if it asked nothing."""
        return self._latency_ns

    def quote(self, obs: Observation) -> Quotes:
        """Ask the model if it is time to, then apply the order rule."""
        self._latency_ns = None
        return super().quote(obs)

    def predict(self, obs: Observation) -> Prediction | None:
        """Return the last answer; None before `SHOWN` decisions were seen or where it was no answer."""
        self._rows.append(obs.record.copy())
        if len(self._rows) < SHOWN:
            return None
        if self._wait == 0:
            answer = self._ask(render(np.concatenate(self._rows), self._instrument, self._unit))
            self.asks += 1
            self.unparsable += not answer.parsed
            self._latency_ns = answer.latency_ns
            self._last = (answer.dm, answer.s, answer.v) if answer.parsed else None
            self._wait = self.ask_every
        self._wait -= 1
        return self._last

    def _ask(self, text: str) -> Answer:
        if self._answers is None:
            raise ConfigError("teacher: expected a reset before the first question")
        key = prompt_key(self._prefix, TEMPLATE, text)
        known = self._answers.get(key)
        if known is None:
            known = self._generate(text) if self.mode == "generate" else self._probe(text)
            self._answers.put(key, known)
        return known

    def _probe(self, text: str) -> Answer:
        model = self._ready()
        if self._heads is None:
            raise ConfigError("teacher: expected ridge heads, was none")
        begin = time.perf_counter_ns()
        hidden = model.hidden([text], batch=1, pool=self._heads.card["pool"])
        dm, s, v = self._heads.predict(hidden)[0].tolist()
        return Answer(dm, s, v, time.perf_counter_ns() - begin, True)

    def _generate(self, text: str) -> Answer:
        model = self._ready()
        begin = time.perf_counter_ns()
        parsed = parse_answer(model.generate(json_prompt(text), self.max_new_tokens))
        spent = time.perf_counter_ns() - begin
        return Answer(*(parsed or (0.0, 0.0, 0.0)), spent, parsed is not None)

    def close(self) -> None:
        """Close the answers and let go of the model."""
        if self._answers is not None:
            self._answers.close()
        self._answers = self._model = self._place = None
