"""Learned agents of mmsim, imported as ``mmsim_agents``; torch is imported only inside what needs it."""

# A second copy under the folder's own name would give every class a twin that isinstance rejects.
if __name__ != "mmsim_agents":
    raise ImportError(
        f"expected the package to be imported as 'mmsim_agents', was {__name__!r}: "
        "install the project (`make setup` or `pip install -e .`) and import mmsim_agents"
    )
