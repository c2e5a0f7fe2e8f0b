"""What a pipeline file becomes: the demo's commands, what each follows from, and what is refused."""

from pathlib import Path

import pytest

from recsys import runs
from recsys.errors import InputError
from recsys.pipeline import steps
from recsys.pipeline.plan import to_remove
from recsys.pipeline.steps import Command, read
from recsys.prompt.host import network as host_network

ROOT = Path(__file__).parents[2]

IDPROXY = (
    "configs/movielens-1m.yaml train.epochs=1 configs/idproxy/v5.yaml run=runs/demo-idproxy "
    "model.proxy.coarse=runs/demo/proxy/vectors/coarse.parquet "
    "model.proxy.layers=runs/demo/proxy/vectors/layers.parquet"
)
BASE = "configs/movielens-1m.yaml run=runs/demo train.epochs=1"
DEMO = f"""
python -m tools.prepare {BASE}
torchrun --nproc-per-node 2 -m tools.train {BASE}
torchrun --nproc-per-node 2 -m tools.align {BASE}
torchrun --nproc-per-node 2 -m tools.train {IDPROXY}
torchrun --nproc-per-node 2 -m tools.predict {BASE}
torchrun --nproc-per-node 2 -m tools.predict {IDPROXY}
torchrun --nproc-per-node 2 -m tools.simulate {BASE} configs/simulator/demo.yaml
torchrun --nproc-per-node 2 -m tools.floor {BASE} --system finetune --exposure 8
torchrun --nproc-per-node 2 -m tools.prompt {BASE} --exposure 8
torchrun --nproc-per-node 2 -m tools.lifecycle {IDPROXY} --exposure 8
python -m tools.evaluate {BASE} --scores base=runs/demo/scores/test --scores idproxy=runs/demo-idproxy/scores/test \
--scores simulated=runs/demo/simulator/simulated/scores.parquet
python -m tools.evaluate {BASE} --exposure 8 --only n=8 --against base/finetuned \
--scores base/finetuned=runs/demo/floor/finetune/n=8 --scores promo=runs/demo/prompt/summary/n=8/scores.parquet \
--scores road=runs/demo-idproxy/lifecycle/road/n=8/scores.parquet
python -m tools.export {BASE}
python -m tools.report {BASE} --scores idproxy=runs/demo-idproxy/scores/test
"""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def demo(*words: str) -> dict[str, Command]:
    return {step.name: step for step in read("configs/demo.yaml", words)[1]}


def test_the_demo_is_these_commands() -> None:
    folder, commands = read("configs/demo.yaml", [])
    assert folder == Path("runs/demo")
    assert [step.command for step in commands] == DEMO.strip().splitlines()


def test_what_is_typed_wins_but_over_what_a_step_sets_itself() -> None:
    found = demo("run=runs/mine", "simulator.funnel.items=5")
    assert found["prepare"].command == (
        "python -m tools.prepare configs/movielens-1m.yaml train.epochs=1 run=runs/mine simulator.funnel.items=5"
    )
    assert "run=runs/mine-idproxy model.proxy.coarse=runs/mine/proxy/" in found["train-idproxy"].command
    assert "run=runs/mine " not in found["train-idproxy"].command
    assert found["simulate"].values["simulator.funnel.items"] == 5
    assert found["simulate"].values["simulator.funnel.candidates"] == 20
    alone = {step.name: step.command for step in read("configs/demo.yaml", [], ranks=1)[1]}
    assert alone["train"] == f"python -m tools.train {BASE}"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("evaluate.replicates=7", {"evaluate", "evaluate-feedback", "report"}),
        ("evaluate.batch_size=7", set()),
        ("item_sharding=row_wise", set()),
        ("simulator.judge.cache=elsewhere", set()),
        ("train.keep=7", set()),
        ("simulator.funnel.seed=7", {"simulate"}),
        ("train.epochs=7", {"train", "train-idproxy"}),
        ("proxy.align.epochs=7", {"align"}),
        ("floor.prior=7", {"floor", "lifecycle"}),
        ("prompt.summary.draws=7", {"prompt", "lifecycle"}),
        ("data.history=7", {"prepare", "train", "train-idproxy"}),
    ],
)
def test_a_step_follows_from_its_own_keys(word: str, expected: set[str]) -> None:
    before, now = demo(), demo(word)
    assert {name for name in now if now[name].values != before[name].values} == expected


def test_what_may_change_within_a_run_is_followed_only_where_scores_do() -> None:
    free = {key for key in runs._FREE if key.startswith("train.")}
    followed = {key for key in free if demo()["train"].contract.follows_from(key)}
    assert followed == {"train.batch_size", "train.shuffle_rows"}


def test_what_reads_what_another_has_written() -> None:
    made: dict[str, list[str]] = {}
    for step in demo().values():
        for path in step.contract.writes:
            made.setdefault(path, []).append(step.name)
    for name in ("train", "align", "simulate", "floor", "prompt", "export"):
        assert "prepare" in made["data/movielens-1m"] and "data/movielens-1m" in demo()[name].contract.reads
    assert made["runs/demo/deltas"] == ["train", "simulate"]
    assert made["runs/demo/results.json"] == ["evaluate", "evaluate-feedback"]
    for name in ("train-idproxy", "predict", "evaluate", "evaluate-feedback", "export"):
        for path in demo()[name].contract.reads:
            assert any(Path(path).is_relative_to(each) for each in made), (name, path)


GENERATE = """
steps:
  - {tool: export}
  - {tool: align, name: generate, arguments: generate --items new.parquet, config: %s}
  - {tool: align, name: refresh, arguments: refresh, config: %s}
"""


def test_a_job_of_a_tool_stands_before_its_config_and_has_a_contract_of_its_own(tmp_path: Path) -> None:
    slot = "model.proxy.coarse=v/coarse.parquet model.proxy.layers=v/layers.parquet"
    (tmp_path / "jobs.yaml").write_text(GENERATE % (slot, slot))
    words = ["configs/movielens-1m.yaml", "configs/idproxy/v5.yaml", "run=runs/mine"]
    _, (export, generate, refresh) = read(str(tmp_path / "jobs.yaml"), words)
    config = f"{' '.join(words[:2])} {slot} {words[2]}"
    assert generate.command == f"python -m tools.align generate {config} --items new.parquet"
    assert refresh.command == f"python -m tools.align refresh {config}"
    made_by = {"v/coarse.parquet", "v/layers.parquet", "v/about.json", "v/encoder", "runs/mine/checkpoints"}
    published = {"runs/mine/deltas", "runs/mine/export"}
    assert set(generate.contract.reads) == {"new.parquet", *made_by}
    assert set(generate.contract.writes) == {"v/generated", *published}
    assert set(refresh.contract.reads) == {"v/generated", *made_by} and set(refresh.contract.writes) == published
    assert set(generate.values) == {"model.proxy.place", "model.proxy.coarse", "model.proxy.layers"}
    assert "runs/mine/export" in export.contract.writes


NETWORK = """
steps:
  - {tool: prompt, name: few, arguments: --network --exposure 2}
  - {tool: prompt, name: more, arguments: --network --exposure 8}
  - {tool: prompt, name: tuned, arguments: --network --exposure 8, config: prompt.tuning.finetune=true}
  - {tool: prompt, name: bundle, arguments: --network --export}
  - {tool: prompt, name: answer, arguments: --network --feedback new.parquet}
  - {tool: prompt, name: backbone, arguments: --network, config: configs/backbone/sasrec.yaml, ranks: 1}
"""


def networks(folder: Path, *words: str) -> dict[str, Command]:
    (folder / "networks.yaml").write_text(NETWORK)
    given = ["configs/movielens-1m.yaml", "configs/promo/code.yaml", "run=r", *words]
    return {step.name: step for step in read(str(folder / "networks.yaml"), given)[1]}


def test_a_network_beside_the_ranker_or_a_backbone_has_a_contract_for_each_of_its_jobs(tmp_path: Path) -> None:
    found, home = networks(tmp_path), "r/prompt/host/code"
    config = "configs/movielens-1m.yaml configs/promo/code.yaml"
    assert found["few"].command == f"torchrun --nproc-per-node 2 -m tools.prompt {config} run=r --network --exposure 2"
    assert found["backbone"].command.startswith(f"python -m tools.prompt {config} configs/backbone/sasrec.yaml")
    base = {"data/movielens-1m", "r/checkpoints"}
    expected = {
        "few": ({*base, "r/scores/test"}, {f"{home}/n=2"}),
        "more": ({*base, "r/scores/test"}, {f"{home}/n=8"}),
        "tuned": ({*base, "r/scores/test"}, {f"{home}/finetuned/n=8"}),
        "bundle": ({*base, "r/deltas", f"{home}/feedback"}, {f"{home}/export"}),
        "answer": ({*base, "new.parquet"}, {f"{home}/feedback", f"{home}/deltas", f"{home}/export"}),
        "backbone": ({"data/movielens-1m", "r/backbone/sasrec"}, {"r/prompt/sasrec/code/scores"}),
    }
    assert {name: (set(step.contract.reads), set(step.contract.writes)) for name, step in found.items()} == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("prompt.k=7", {"few", "more", "tuned", "bundle", "answer", "backbone"}),
        ("prompt.tuning.passes=7", {"few", "more", "tuned", "bundle", "answer", "backbone"}),
        ("prompt.model.sharding=row_wise", set()),
        ("prompt.summary.draws=7", set()),
        ("prompt.retention.pairs=7", set()),
        ("floor.prior=7", {"tuned"}),
        ("train.shuffle_rows=7", {"few", "more", "tuned", "bundle", "answer"}),
        ("backbone.width=32", {"backbone"}),
    ],
)
def test_a_network_follows_from_its_own_keys(word: str, expected: set[str], tmp_path: Path) -> None:
    before, now = networks(tmp_path), networks(tmp_path, word)
    assert {name for name in now if now[name].values != before[name].values} == expected


def test_a_network_is_begun_anew_only_for_what_it_has_learned_from_and_once(tmp_path: Path) -> None:
    found = networks(tmp_path)
    learned = [f"r/prompt/host/code/{name}" for name in ("checkpoints", "deltas", "encoder")]
    steps = list(found.values())
    for key in ("prompt.k", "prompt.model.code", "prompt.tuning.pose", "r/checkpoints", "data/movielens-1m"):
        assert to_remove(found["few"], frozenset([key])) == learned
        for place, name in enumerate(("more", "tuned", "bundle", "answer"), 1):
            assert to_remove(found[name], frozenset([key])) == learned
            assert to_remove(found[name], frozenset([key]), steps[:place]) == [], "few has begun it from the same"
    for key in ("prompt.tuning.epochs", "prompt.tuning.passes", "prompt.tuning.finetune", "r/scores/test", "arguments"):
        assert to_remove(found["few"], frozenset([key])) == []
    other = networks(tmp_path, "prompt.k=7")
    assert to_remove(other["more"], frozenset(["prompt.k"]), [found["few"]]) == learned
    assert to_remove(found["backbone"], None) == ["r/prompt/sasrec/code/checkpoint"]


def test_what_a_network_is_refused_without_is_what_it_is_begun_with(tmp_path: Path) -> None:
    """Each key of the lists, the model and the training begins it anew, or is one that may change."""
    few = networks(tmp_path)["few"]
    free = {key for key in few.values if not to_remove(few, frozenset([key]))}
    assert free == {"prompt.name", "train.shuffle_rows", *(f"prompt.tuning.{key}" for key in host_network.FREE)}


def test_only_what_a_change_makes_useless_is_removed() -> None:
    simulate, train = demo()["simulate"], demo()["train"]
    adapter = ["runs/demo/simulator/adapter", "runs/demo/simulator/tuning"]
    assert to_remove(simulate, frozenset(["simulator.funnel.items"])) == []
    assert to_remove(simulate, frozenset(["simulator.tune.steps"])) == adapter
    assert to_remove(simulate, frozenset(["data/movielens-1m"])) == adapter
    assert to_remove(simulate, None) == adapter
    assert to_remove(train, frozenset()) == []
    assert "runs/demo/checkpoints" in to_remove(train, frozenset(["train.lr"]))


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a config for its steps: name one behind it"):
        read("configs/pipeline.yaml", [])
    with pytest.raises(InputError, match=r"configs/own-logs\.yaml: unknown key 'run'; did you mean 'ranks'\?"):
        read("configs/own-logs.yaml", [])
    with pytest.raises(InputError, match=r"unknown key 'train\.epoch'; did you mean 'epochs'"):
        demo("train.epoch=1")
    for text, said in (
        ("steps: []", "steps: "),
        ("steps: [{tool: trian}]", "steps.0.tool: Input should be 'prepare', 'train'"),
        ("steps: [{tool: train, switches: x}]", "unknown key 'steps.0.switches'; did you mean"),
        ("steps: [{tool: train}, {tool: train}]", "two steps are called 'train'"),
        ("steps: [{tool: floor, arguments: --exposure many}]", "floor: arguments '--exposure many'"),
        ("steps: [{tool: evaluate, arguments: '--scores'}]", "evaluate: arguments '--scores'"),
        ("steps: [{tool: align, arguments: look}]", "align look: .* expected align, align generate, align refresh"),
        ("steps: [{tool: prompt, arguments: --export}]", "prompt: expected --exposure or --feedback; --export goes"),
        ("steps: [{tool: prompt, arguments: --retention}]", "prompt: .* what --retention changes is not known here"),
        ("steps: [{tool: train, arguments: --profile 3}]", "train: .* what --profile changes is not known here"),
        ("steps: [{tool: align, arguments: generate}]", "align generate: expected --items"),
        ("steps: [{tool: align, arguments: refresh}]", "model.proxy.coarse: none: expected the vectors"),
    ):
        path = tmp_path / "one.yaml"
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            steps.read(str(path), ["configs/movielens-1m.yaml"])


def test_the_pipeline_for_any_dataset_reads() -> None:
    folder, commands = read("configs/pipeline.yaml", ["configs/own-logs.yaml", "run=runs/mine"])
    assert folder == Path("runs/mine")
    assert commands[0].command == "python -m tools.prepare configs/own-logs.yaml run=runs/mine"
    assert "logs/impressions/*.parquet" in commands[0].contract.reads
