"""Export of a run for serving: one folder that scores by itself (`recsys.tables.bundle`), proved before it is there.

    <run>/export/manifest.json                    written last: inputs, tables, origin, and a checksum of every file
    <run>/export/parquet/, safetensors/           the tables (see recsys.tables.parts)
    <run>/export/dense.pt2                        everything after the tables, by torch.export
    <run>/export/probe.parquet                    unusual rows, and what the bundle must score them

The folder appears whole or not at all, and only once the bundle, loaded from it, has scored the probe rows as the
trained model does. 8-bit tables are proved twice: with the trained vectors in their place the probe rows must agree,
and with the codes the AUC on valid rows.

Vectors are never gathered: a rank writes its share of the parts straight from the checkpoint's files, one part in
memory at a time. Ids are in memory, some 250 bytes each while the probe is scored.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
import yaml
from sklearn.metrics import roc_auc_score

from recsys.config import Config
from recsys.data.content import COARSE, FINE, in_history
from recsys.data.encode import Encoder
from recsys.data.schema import read_info
from recsys.distributed import Ranks, of_first, on_first, together
from recsys.errors import InputError
from recsys.files import replacing
from recsys.model.ranker import Served, ServedPrompted
from recsys.tables import checkpoint, manifest, parts
from recsys.tables.bundle import EXPORT, PROBE, Bundle
from recsys.tables.folded import served
from recsys.tables.locks import reading
from recsys.tables.parts import Table, Vectors, tables_of
from recsys.tables.probe import Prompted, Trained, probe, raw_rows
from recsys.tables.program import PROGRAM

PART_ROWS = 65536
"""Most rows in a part."""
TOLERANCE, AUC_TOLERANCE = 1e-5, 1e-3
"""Largest difference to the trained model: of a probe row's score; of the AUC on valid rows with 8-bit tables."""
JUDGED_ROWS = 65536
"""Valid rows on which the AUC of 8-bit tables is judged, about."""


def export(
    config: Config,
    ranks: Ranks,
    int8: bool = False,
    part_rows: int = PART_ROWS,
    prompted: Prompted | None = None,
) -> Path:
    """Write the bundle of the run's best checkpoint to `<run>/export/`, all of it or nothing. Collective.

    Args:
        int8: keep vectors as 8-bit codes with a scale and an offset a row: D + 8 bytes instead of 4 D.
        prompted: the network beside the ranker whose vectors the bundle has too; it then goes to `<its folder>/export/`
            and follows the network's deltas instead of the run's.

    Raises:
        InputError: the run has no checkpoint, it cannot be read, its tables are not those of the run's id maps, or the
            bundle does not score as the trained model does.
    """
    run = Path(config.run)
    with reading(run) if ranks.is_first else nullcontext():
        return _export(config, ranks, run, int8, part_rows, prompted)


def _export(config: Config, ranks: Ranks, run: Path, int8: bool, part_rows: int, prompted: Prompted | None) -> Path:
    folder = (prompted.folder if prompted else run) / "export"
    source = of_first(ranks, lambda: checkpoint.best(run / "checkpoints"))
    tables = together(lambda: tables_of(run, source))
    exported = together(lambda: served(config, source, tables))
    exported += [(prompted.table, prompted.vectors)] if prompted else []
    with replacing(folder) if ranks.is_first else nullcontext() as partial:
        target = of_first(ranks, lambda: Path(str(partial)))
        target.mkdir(parents=True, exist_ok=True)
        files = _write_share(exported, target, ranks, part_rows, int8)

        def finish() -> None:
            encoder = Encoder.load(config, run / "encoder", {table.name: table.ids for table in tables})
            trained = Trained(config, encoder, source, tables, prompted)
            told = {
                "source": _origin(run, source),
                "inputs": _inputs(encoder) | ({"prompt": prompted.table.name} if prompted else {}),
                "tables": {table.name: table.describe(part_rows) for table, _ in exported},
                "origin": asdict(prompted.version if prompted else checkpoint.version_of(source)),
                "probe": PROBE,
                "deltas": [],
            }
            _write_program(trained, target / PROGRAM)
            exact = {table.name: vectors for table, vectors in exported} if int8 else None
            _prove(config, trained, target, lambda: _seal(target, files, told), exact)

        on_first(ranks, finish)
    dist.barrier()
    return folder


def _prove(
    config: Config, trained: Trained, folder: Path, seal: Callable[[], None], exact: dict[str, Vectors] | None
) -> None:
    """Write the probe and seal the folder; refuse it where, read back, it does not score as the trained model does.

    exact: of 8-bit tables, the vectors that they are of.
    """
    rows = probe(config, trained.encoder)
    _write_probe(rows, trained.score(rows), folder / PROBE)
    seal()
    bundle = Bundle.load(folder, mapped=True)
    if exact is None:
        bundle.check(TOLERANCE)
        return
    coded, bundle.vectors = bundle.vectors, {**exact}
    bundle.check(TOLERANCE)  # all but the codes
    bundle.vectors = coded
    _require_auc(config, trained, bundle)
    # What 8-bit tables must give on another machine is what they give here.
    _write_probe(rows, bundle.score(rows), folder / PROBE)
    seal()
    Bundle.load(folder, mapped=True).check(TOLERANCE)


def _write_share(
    tables: list[tuple[Table, Vectors]], folder: Path, ranks: Ranks, part_rows: int, int8: bool
) -> manifest.Files:
    """Write this rank's parts of every table; the files of all ranks, on every rank. Collective.

    Raises:
        InputError: any rank's, on every rank.
    """

    def work() -> manifest.Files:
        files: manifest.Files = {}
        for k, (table, vectors) in enumerate(tables):
            # Turned by one rank a table, so that the many tables of a single part do not all fall to the same rank.
            place = (ranks.rank + k) % ranks.world_size
            for path in parts.write(table, vectors, folder, place, ranks.world_size, part_rows, int8):
                files[str(path.relative_to(folder))] = manifest.stamp(path)
        return files

    files = together(work)
    shares: list[manifest.Files] = [{}] * ranks.world_size
    dist.all_gather_object(shares, files)
    return {path: stamp for share in shares for path, stamp in sorted(share.items())}


def _write_program(trained: Trained, path: Path) -> None:
    """The dense part as a program of any batch size."""
    arch = trained.dense_arch()
    spec = trained.encoder.spec
    width, longest = arch.dim, max(spec.history, 1)
    rows = 2  # an example of one row would be taken for a constant
    example: tuple[torch.Tensor, ...] = (
        torch.zeros(rows, spec.dense),
        torch.zeros(rows, (len(spec.single) + len(spec.multi)) * width),
        torch.zeros(rows, width),
        torch.zeros(rows, longest, width),
        torch.zeros(rows, dtype=torch.int64),
        torch.zeros(rows, longest, dtype=torch.int64),
    )
    if trained.prompted:
        example += (torch.zeros(rows, trained.prompted.table.dim),)
    if arch.proxies is not None:
        content = spec.content[0].dim + width * (len(spec.content) - 1)
        example += (torch.zeros(rows, content),)
        example += (torch.zeros(rows, longest, content),) if in_history(trained.encoder.config) else ()
    batch = torch.export.Dim("batch", min=1)
    served_arch = (ServedPrompted if trained.prompted else Served)(arch).eval()
    program = torch.export.export(served_arch, example, dynamic_shapes=tuple({0: batch} for _ in example))
    program.example_inputs = None  # they would be pickled
    torch.export.save(program, path)


def _write_probe(rows: pa.Table, expected: torch.Tensor, path: Path) -> None:
    names = [name for name in rows.column_names if name != "label"]
    table = rows.select(names).append_column("score", pa.array(expected.numpy()))
    pq.write_table(table, path, compression="zstd")


def _seal(folder: Path, files: manifest.Files, told: dict[str, object]) -> None:
    own = {name: manifest.stamp(folder / name) for name in (PROGRAM, PROBE)}
    manifest.write(folder, EXPORT, files | own, **told)


def _require_auc(config: Config, trained: Trained, bundle: Bundle) -> None:
    """Refuse 8-bit tables that rank the valid rows worse, or better, than the trained ones."""
    labels, exact, coded = [np.zeros(0)], [torch.zeros(0)], [torch.zeros(0)]
    for table in raw_rows(config, trained.encoder, "valid", JUDGED_ROWS):
        labels.append(table["label"].to_numpy())
        exact.append(trained.score(table))
        coded.append(bundle.score(table))
    label = np.concatenate(labels)
    if len(np.unique(label)) != 2:
        raise InputError(f"{config.data.path}: split=valid: 8-bit tables are judged on rows of both labels")
    change = roc_auc_score(label, torch.cat(coded)) - roc_auc_score(label, torch.cat(exact))
    if not abs(change) <= AUC_TOLERANCE:
        raise InputError(
            f"{config.run}: 8-bit tables change the AUC on {len(label)} valid rows by {change:+.4f}, more than "
            f"{AUC_TOLERANCE}: export without them"
        )


def _inputs(encoder: Encoder) -> dict[str, object]:
    """What a row must carry, in the order in which the model takes it."""
    spec = encoder.spec
    scalers = {f.name: encoder.scalers[f.name] for f in encoder.ordered if f.kind == "dense"}
    return {
        "item": spec.item.name,
        "single": [table.name for table in spec.single],
        "multi": [table.name for table in spec.multi],
        "dense": [{"name": name, "mean": s.mean, "std": s.std, "log": s.log} for name, s in scalers.items()],
        "history": spec.history,
        "history_labels": bool(spec.history and encoder.config.model.history_labels),
        "content": [COARSE, FINE][: len(spec.content)],
        "history_content": in_history(encoder.config),
    }


def _origin(run: Path, source: Path) -> dict[str, object]:
    """Where the bundle comes from: run, checkpoint, dataset, and the config it was trained with."""
    progress = checkpoint.progress_of(source)
    trained = run / "config.yaml"
    try:
        config = yaml.safe_load(trained.read_text())
    except OSError as error:
        raise InputError(f"{trained}: the run's config cannot be read: {error}") from None
    return {
        "run": str(run),
        "checkpoint": source.name,
        "step": progress.step,
        "best_auc": progress.best_auc,
        "dataset": read_info(config["data"]["path"]).fingerprint,
        "config": config,
        "torch": torch.__version__,
        "pyarrow": pa.__version__,
    }
