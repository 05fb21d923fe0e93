"""``vidrestore batch --ray``: two machines of a real Ray cluster, one of them lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import BATCH, FAST, batch, decoded, published, tree
from skimage.data import astronaut

from vidrestore.batch.store import Store

STEPS = "restore=classic:size=128:denoise=0:deblock=0,smooth=one_euro,blend=feather:strength=1"
CHAIN = ["-vf", STEPS, "--gate", "off", "-c:v", "ffv1", "-f", "mkv", "--segment", "16"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and two machines with one processor each. They end with this process, however it ends."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    store = 80_000_000  # bytes; nothing much lies there
    first = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": store}
    found = Cluster(initialize_head=True, shutdown_at_exit=True, head_node_args=first)
    for _ in range(2):
        found.add_node(wait=False, num_cpus=1, object_store_memory=store)
    found.wait_for_nodes()
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of a face in one long shot, which is worked in parts."""
    folder = tmp_path_factory.mktemp("films")
    face = astronaut()[0:220:2, 100:350:2]
    for name in "ab":
        with av.open(str(folder / f"{name}.mkv"), "w") as out:
            stream = out.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for i in range(48):
                picture = np.full((120, 160, 3), 90 if name == "a" else 160, np.uint8)
                picture[8:118, 5 + i % 25 : 130 + i % 25] = face
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                out.mux(stream.encode(frame.reformat(format="yuv420p")))
            out.mux(stream.encode(None))
    return folder


@pytest.fixture(scope="module")
def calm(faces: Path) -> dict[str, list[str]]:
    """What one worker makes of them, undisturbed."""
    out = faces.parent / "calm"
    assert batch("run", faces, "-o", out, *CHAIN).returncode == 0
    return outputs(out)


def outputs(out: Path) -> dict[str, list[str]]:
    return {p.name: decoded(p) for p in sorted(out.glob("*.restored.mkv"))}


def begun(source: Path, out: Path, cluster: Any, options: Sequence[str]) -> subprocess.Popen[str]:
    command = [*BATCH, "run", str(source), "-o", str(out), *options, "--ray", cluster.address, "--progress", "json"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{"):
            yield json.loads(line)


def actors() -> list[int]:
    """Processes of actors of ours that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes()
        except OSError:
            continue
        if name.startswith((b"ray::Hand", b"ray::Keeper")):
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_two_workers_give_the_frames_of_one(faces: Path, calm: dict[str, list[str]], tmp_path: Path) -> None:
    assert batch("run", faces, "-o", tmp_path, *CHAIN, "--workers", "2").returncode == 0
    assert outputs(tmp_path) == calm


@pytest.mark.slow
def test_a_killed_driver_is_taken_over_by_the_next(films: Callable[[int], Path], cluster: Any, tmp_path: Path) -> None:
    source, calm, out = films(2), tmp_path / "calm", tmp_path / "out"
    assert batch("run", source, "-o", calm, *FAST).returncode == 0
    driver = begun(source, out, cluster, [*FAST, "--retries", "2"])
    done = []
    for event in told(driver):
        if event["event"] == "end" and event["kind"] == "restore":
            break
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    with Store(out) as store:
        done = [task.id for job in store.jobs() for task in store.tasks(job.id) if task.result != "{}"]
    again = begun(source, out, cluster, [*FAST, "--retries", "2"])
    redone = sum(event["event"] == "end" and event["kind"] == "restore" for event in told(again))
    assert again.wait() == 0 and not actors()
    assert done and redone == 10 - len(done), "what was done is not done again"
    names = ("tape 0.restored.mp4", "old/tape 1.restored.mp4")
    assert tree(out) == tree(calm) and all(decoded(out / name) == decoded(calm / name) for name in names)


@pytest.mark.slow
def test_a_lost_machines_segments_are_taken_over(
    faces: Path, calm: dict[str, list[str]], cluster: Any, tmp_path: Path
) -> None:
    driver = begun(faces, tmp_path, cluster, CHAIN)
    nodes = {node.node_id: node for node in cluster.worker_nodes}
    machine: dict[int, str] = {}
    died: list[str] = []
    killed = False
    for event in told(driver):
        if event["event"] == "ready":
            machine[event["worker"]] = event["node"]
        elif event["event"] == "begin" and event["kind"] == "restore" and not killed:
            killed = True
            cluster.remove_node(nodes[machine[event["worker"]]], allow_graceful=False)
        elif event["event"] == "died":
            died.append(event["what"])
    assert driver.wait() == 0 and len(died) == 1
    assert len(set(machine.values())) == 2, "both machines had workers"
    assert outputs(tmp_path) == calm and not actors()
    assert tree(tmp_path) == published("a.restored.mkv", "b.restored.mkv"), "no segment is left"


def test_no_cluster_is_one_line(faces: Path, tmp_path: Path) -> None:
    for address, code, said in (
        ("ray://here:1", 2, "no cluster"),
        ("local", 2, "--workers"),
        ("127.0.0.1:1", 7, "ray start"),
    ):
        done = batch("run", faces, "-o", tmp_path / "out", *CHAIN, "--ray", address)
        assert done.returncode == code and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
