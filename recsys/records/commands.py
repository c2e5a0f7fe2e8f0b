"""Commands that several records are made of, as they are typed."""

RANKS = "torchrun --nproc-per-node 2 -m"


def trained(words: str) -> list[str]:
    """Train and score the test rows; words: config and overrides."""
    return [f"{RANKS} tools.{tool} {words}" for tool in ("train", "predict")]
