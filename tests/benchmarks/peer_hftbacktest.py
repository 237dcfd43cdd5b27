"""Runs hftbacktest on the benchmark's inputs, one request per line. Imports nothing of mmsim.

hftbacktest pins older libraries than mmsim, so it lives in an environment of its own, whose interpreter
runs this file: `mmsim bench` keeps the process and sends it one case at a time, so that both engines are
measured in turn. Requests and answers are JSON objects, one per line, on standard input and output:

``{"do": "load", "level": "L2", "events": PATH, "recv": PATH}``
    Read a feed: an ``EVENT`` array (L2) or a ``FEED`` array (L3), each ``.npy``, and receive times; without
    these every row is received ``delay_ns`` after its exchange time.
``{"do": "run", "what": "maker"}``
    Replay it once; answers wall and CPU seconds and what happened.
``{"do": "script", "level": "L2", "rows": [...], "orders": [...]}``
    Replay a few rows written by hand against orders sent at given times; answers their fates.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from typing import Any

import hftbacktest as hb
import numpy as np
from hftbacktest.binding import event_dtype
from numba import njit

# The lot is a thousandth of the quantity quoted: with a quote that a trade can match exactly, 2.4.4's
# partial-fill exchange keeps the filled order and a later touch ends the run with code 14.
TICK, LOT = 0.1, 0.001
TRADE, LEVEL, HIDE, CLEAR = 5, 6, 7, 8  # kinds of mmsim's EVENT
FILLED, PARTLY = 3, 5  # statuses of an order
LOG_COLS = 5  # order id, side, price in ticks, exchange time, position after


@njit
def noop(h: Any, step: int) -> int:
    """Wake every `step` ns and do nothing; return how often."""
    wakes = 0
    while h.elapse(step) == 0:
        wakes += 1
    return wakes


@njit
def maker(h: Any, step: int, lean: float, back: int, log: Any) -> Any:
    """Every `step` ns cancel both quotes and send new ones `back` ticks behind the touch, leaning by inventory.

    Fills are written to `log` as far as it has room.
    """
    oid = 1
    have = False
    requests = 0
    n = 0
    while True:
        rc = h.elapse(step)
        if len(log) > 0 and have:
            orders = h.orders(0)
            for k in range(
                max(oid - 4, 1), oid
            ):  # the two before: filled just as their cancel was on its way
                if k in orders:
                    o = orders.get(k)
                    if o.status == 3 and n < len(log):
                        log[n, 0], log[n, 1], log[n, 2] = k, o.side, o.exec_price_tick
                        log[n, 3], log[n, 4] = o.exch_timestamp, round(h.position(0))
                        n += 1
        if rc != 0:
            break
        h.clear_inactive_orders(0)
        d = h.depth(0)
        if have:
            orders = h.orders(0)
            for k in (oid - 2, oid - 1):
                if k in orders and orders.get(k).cancellable:
                    h.cancel(0, k, False)
                    requests += 1
        skew = int(h.position(0) / lean)
        bid = d.best_bid_tick - back - max(skew, 0)
        ask = d.best_ask_tick + back + max(-skew, 0)
        h.submit_buy_order(0, oid, bid * d.tick_size, 1.0, 1, 0, False)  # post only, limit
        h.submit_sell_order(0, oid + 1, ask * d.tick_size, 1.0, 1, 0, False)
        oid += 2
        requests += 2
        have = True
    return requests, rc, n


@njit
def script(h: Any, actions: Any, tick: float) -> Any:
    """Send orders at given times after the first event: time, id, side (0 cancels), ticks, quantity, time in force."""
    rc = h.elapse(0)
    start = h.current_timestamp
    for i in range(len(actions)):
        wait = start + int(actions[i, 0]) - h.current_timestamp
        if wait > 0:
            rc = h.elapse(wait)
            if rc != 0:
                return rc
        oid, side = int(actions[i, 1]), actions[i, 2]
        if side > 0:
            h.submit_buy_order(0, oid, actions[i, 3] * tick, actions[i, 4], int(actions[i, 5]), 0, False)
        elif side < 0:
            h.submit_sell_order(0, oid, actions[i, 3] * tick, actions[i, 4], int(actions[i, 5]), 0, False)
        else:
            h.cancel(0, oid, False)
    while rc == 0:
        rc = h.elapse(1_000_000)
    return rc


@njit
def order_of(h: Any, oid: int, out: Any) -> bool:
    """Write status, executed price, executed and open thousandths and exchange time of an order to `out`."""
    orders = h.orders(0)
    if oid not in orders:
        return False
    o = orders.get(oid)
    out[0], out[1], out[2] = o.status, o.exec_price_tick, round(o.exec_qty * 1000)
    out[3], out[4] = round(o.leaves_qty * 1000), o.exch_timestamp
    return True


class Feed:
    """Events in the peer's own form."""

    def __init__(self, level: str, rows: Any, recv: Any, delay_ns: int) -> None:
        self.level = level
        self.px_min, self.px_max = int(rows["px"].min()), int(rows["px"].max())
        ev = self.events = np.zeros(len(rows), event_dtype)
        side = np.where(rows["side"] > 0, hb.BUY_EVENT, np.where(rows["side"] < 0, hb.SELL_EVENT, 0))
        kind = rows["kind"].astype(np.int64)
        if level == "L2":
            table = np.zeros(16, np.int64)
            table[[TRADE, LEVEL, HIDE, CLEAR]] = (
                hb.TRADE_EVENT,
                hb.DEPTH_EVENT,
                hb.DEPTH_EVENT,
                hb.DEPTH_CLEAR_EVENT,
            )
            ev["qty"] = np.where(kind == HIDE, 0, rows["qty"])
            kind = table[kind]
        else:
            ev["qty"] = rows["qty"]
            ev["order_id"] = rows["order_id"]
        ev["ev"] = side | kind | hb.EXCH_EVENT | hb.LOCAL_EVENT
        ev["exch_ts"] = rows["ts"]
        ev["local_ts"] = rows["ts"] + delay_ns if recv is None else recv
        ev["px"] = rows["px"] * TICK

    def build(self, o: dict[str, Any]) -> Any:
        """Return a fresh backtest with the models that request `o` asks for."""
        asset = (
            hb.BacktestAsset()
            .linear_asset(1.0)
            .constant_order_latency(o.get("order_ns", 1_000_000), o.get("ack_ns", 1_000_000))
            .tick_size(TICK)
            .lot_size(o.get("lot", LOT))
            .trading_value_fee_model(0.0, 0.0)
        )
        if self.level == "L3":
            asset = asset.l3_fifo_queue_model()
        elif o.get("queue", "power") == "power":
            asset = asset.power_prob_queue_model(2.0)
        else:
            asset = asset.risk_adverse_queue_model()
        asset = asset.partial_fill_exchange() if o.get("partial") else asset.no_partial_fill_exchange()
        roi = o.get("depth", "roi") == "roi"
        if roi:
            asset = asset.roi_lb((self.px_min - 5) * TICK).roi_ub((self.px_max + 5) * TICK)
        asset = asset.data([self.events])
        return (hb.ROIVectorMarketDepthBacktest if roi else hb.HashMapMarketDepthBacktest)([asset])


def run(feed: Feed, o: dict[str, Any]) -> dict[str, Any]:
    """Replay once and say how long it took."""
    step = o.get("step_ns", 100_000_000)
    log = np.zeros((o.get("log", 0), LOG_COLS), np.int64)
    h = feed.build(o)
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    if o["what"] == "noop":
        check: dict[str, Any] = {"wakes": noop(h, step)}
    else:
        requests, rc, n = maker(h, step, float(o.get("lean", 20)), o.get("back", 0), log)
        check = {"requests": requests, "rc": rc, "log": log[:n].tolist()}
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if o["what"] != "noop":
        s = h.state_values(0)
        check |= {"fills": int(s.num_trades), "position": float(s.position)}
    h.close()
    return {"wall": wall, "cpu": cpu, "check": check}


def play(o: dict[str, Any]) -> dict[str, Any]:
    """Replay rows given in the request against the orders given in it."""
    names = (
        ("ts", "order_id", "px", "qty", "kind", "side")
        if o["level"] == "L3"
        else ("ts", "px", "qty", "kind", "side")
    )
    rows = np.zeros(len(o["rows"]), [(name, "i8") for name in names])
    for i, row in enumerate(o["rows"]):
        rows[i] = tuple(row)
    feed = Feed(o["level"], rows, None, o.get("delay_ns", 0))
    h = feed.build(o)
    rc = script(h, np.array(o["orders"], np.float64).reshape(-1, 6), TICK)
    out = {}
    values = np.zeros(5, np.int64)
    for oid in sorted({int(a[1]) for a in o["orders"]}):
        if order_of(h, oid, values):
            status, px, qty, leaves, ts = values.tolist()
            filled = status in {FILLED, PARTLY}
            out[str(oid)] = {
                "status": status, "px": px if filled else 0, "qty": qty / 1000 if filled else 0.0,
                "leaves": leaves / 1000, "ts": ts,
            }  # fmt: skip
    s = h.state_values(0)
    answer = {"rc": int(rc), "orders": out, "position": float(s.position), "fills": int(s.num_trades)}
    h.close()
    return answer


def load(o: dict[str, Any]) -> Feed:
    """Read the feed that a request names."""
    n = o.get("rows")
    recv = np.load(o["recv"], mmap_mode="r")[:n] if o.get("recv") else None
    return Feed(o["level"], np.load(o["events"], mmap_mode="r")[:n], recv, o.get("delay_ns", 0))


def serve() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    feed: Feed | None = None
    for line in sys.stdin:
        o = json.loads(line)
        try:
            if o["do"] == "hello":
                answer: dict[str, Any] = {"version": hb.__version__, "python": sys.version.split()[0]}
            elif o["do"] == "load":
                feed = None  # both at once may not fit
                feed = load(o)
                answer = {"rows": len(feed.events), "row_bytes": event_dtype.itemsize}
            elif o["do"] == "script":
                answer = play(o)
            elif feed is None:
                answer = {"error": "load a feed first"}
            else:
                answer = run(feed, o)
        except Exception as err:  # noqa: BLE001 (whatever it is, the other side must hear of it)
            traceback.print_exc(file=sys.stderr)
            answer = {"error": f"{type(err).__name__}: {err}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def resident() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve; or, with ``first|memory EVENTS RECV ROWS``, print one maker's result and stop."""
    if len(sys.argv) == 1:
        serve()
        return
    what, events, recv, rows = sys.argv[1:5]
    request = {"level": "L2", "events": events, "recv": recv}
    before = 0
    if what == "memory":
        run(load({**request, "rows": 20_000}), {"what": "maker"})  # everything loaded and compiled
        gc.collect()
        before = resident()
    feed = load({**request, "rows": int(rows)})
    gc.collect()  # our own file is not the peer's to count
    answer = run(feed, {"what": "maker"})["check"]
    answer["bytes"] = resident() - before
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
