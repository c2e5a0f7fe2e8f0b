"""Checkpoints of a sharded run: saved by W ranks, loaded by any number, whatever the sharding of either; atomic.

    <run>/checkpoints/step-00000400/manifest.json    written last: files with checksums, tensors, progress, version
    <run>/checkpoints/step-00000400/__0_0.distcp     and so on: tensors, by `torch.distributed.checkpoint`
    <run>/checkpoints/step-00000400/.metadata        for that library's own tools; nothing here opens the pickle

The tensors are `model.<name>`; `rows.<table>` [N, c], the row-wise Adagrad sums of a table's N rows for each of its c
column pieces; and `dense.<parameter>.<key>`, Adam's state of the rest.

Saved by `recsys.tables.saving`, found by `recsys.tables.folders`, loaded by `recsys.tables.loading`, for training by
`recsys.tables.resume`; single rows are read by `recsys.tables.stored`.
"""

from recsys.tables.folders import Progress, best, found, latest, place, progress_of, seal, version_of, whole
from recsys.tables.loading import load, read, stored_tensors
from recsys.tables.resume import resume
from recsys.tables.saving import Saver, save

__all__ = [
    "Progress",
    "Saver",
    "best",
    "found",
    "latest",
    "load",
    "place",
    "progress_of",
    "read",
    "resume",
    "save",
    "seal",
    "stored_tensors",
    "version_of",
    "whole",
]
