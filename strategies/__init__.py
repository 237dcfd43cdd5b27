"""Rule-based market makers, imported as ``mmsim_strategies``: one file each, all subclasses of `mmsim.Strategy`."""
