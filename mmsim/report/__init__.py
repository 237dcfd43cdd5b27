"""Tables, files and pictures of a run, made from `MarketResult`. Submodules: table, writer, plots."""

from mmsim.report.result import MarketResult

__all__ = ["MarketResult"]
