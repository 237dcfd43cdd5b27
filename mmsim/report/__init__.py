"""Tables, files and pictures, made from results: what is computed stands in `mmsim.metrics` and `mmsim.statistics`."""
