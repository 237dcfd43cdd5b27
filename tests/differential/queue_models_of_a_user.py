"""A queue model of a user's own, as `SimConfig.queue_model` loads it from a file."""


def all_but_one_ahead(ahead: int, behind: int, gone: int) -> int:
    """Every cancelled lot but one stood ahead of us."""
    return gone - 1
