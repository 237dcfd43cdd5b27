"""The formats that mmsim reads: one record each, and `register` for the user's own."""

from mmsim.data.formats import (
    binance,
    ctp,
    databento,
    fi2010,
    hftbacktest,
    itch,
    lobster,
    sse,
    tardis,
    wondertrader,
)
from mmsim.data.formats.format import Format
from mmsim.errors import ConfigError

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        *(lobster, sse, wondertrader, binance, ctp),
        *(hftbacktest, databento, tardis, itch, fi2010),
    )
}


def register(format_: Format) -> Format:
    """Let `format_` be imported, loaded and listed by its name, in this process; return it.

    Raises
    ------
    ConfigError
        If another format has that name.
    """
    if FORMATS.setdefault(format_.name, format_) != format_:
        raise ConfigError(f"format {format_.name!r} is there already: expected another name")
    return format_


__all__ = ["FORMATS", "Format", "register"]
