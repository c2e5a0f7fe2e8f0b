"""KuaiRand-Pure."""
from recsys.config import Source
from recsys.data.log import Log


def load(source: Source) -> Log:
    raise NotImplementedError
