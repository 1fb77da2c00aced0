"""Bytes counted by hand beside the counter's, and what each system says of its free memory."""

import gc
from pathlib import Path

import nets
import pytest
import torch
from torch import nn

from whycam.network import memory
from whycam.network.memory import free_bytes, peak_bytes

CPU = torch.device("cpu")


@pytest.fixture(params=["no_grad", "inference_mode", "enable_grad"])
def mode(request):
    with getattr(torch, request.param)():
        yield request.param


def test_live_and_peak_by_hand(mode):
    x = torch.zeros(100)  # 400 bytes, from before
    with peak_bytes() as counter:
        a = x + 1  # 400
        b = a.double()  # 1200
        assert (counter.live, counter.peak) == (1200, 1200)
        del a
        assert (counter.live, counter.peak) == (800, 1200)
        c = torch.zeros(150)  # 1400
        del b, c
    assert (counter.live, counter.peak) == (0, 1400)


def test_views_and_what_is_written_in_place_are_not_new(mode):
    x = torch.zeros(10, 10)
    with peak_bytes() as counter:
        x.add_(1)
        views = [x[0], x.T, x.reshape(100), x.detach(), x.view(4, 25), *x.split(5)]
        torch.add(x, 1, out=x)
        assert counter.peak == 0
        y = x.T.reshape(100)  # a copy
        y.relu_()
        views += [y[1:]]
        assert counter.live == counter.peak == 400
        del y
        assert counter.live == 400  # a view of it is left
        views.clear()
        assert counter.live == 0


def test_memory_outlives_the_block_and_is_counted_down_afterwards():
    with peak_bytes() as counter:
        a = torch.zeros(8)
    torch.zeros(1000)  # outside
    assert (counter.live, counter.peak) == (32, 32)
    del a
    assert (counter.live, counter.peak) == (0, 32)


def test_a_chain_of_layers_holds_two_at_a_time_without_gradients_and_all_with(mode):
    layers = nn.Sequential(*[nn.Linear(16, 16) for _ in range(5)])
    x = torch.zeros(4, 16)
    with peak_bytes() as counter:
        out = layers(x)
    size = 4 * 16 * 4
    assert counter.peak == (5 if mode == "enable_grad" else 2) * size
    del out
    gc.collect()
    assert counter.live == 0


def test_what_a_composed_operation_makes_inside_is_counted(mode):
    q = torch.zeros(2, 1, 10, 4)
    with peak_bytes() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=torch.zeros(10, 10, dtype=torch.bool))
    assert counter.peak >= 2 * 10 * 10 * 4  # the products of all with all, or the mask as numbers beside the result


def test_the_peak_of_a_network_grows_with_the_batch_and_is_the_same_every_time():
    model, found = nets.plain(), []
    for samples in (1, 2, 4, 4):
        inputs = nets.images(samples)
        with torch.no_grad(), peak_bytes() as counter:
            model(inputs)
        found.append(counter.peak)
    # the first convolution and the ReLU after it, in float64
    assert found == [samples * 2 * 6 * 8 * 8 * 8 for samples in (1, 2, 4, 4)]


def test_tensors_without_memory_are_left_out():
    with peak_bytes() as counter:
        torch.eye(3).to_sparse()
    assert counter.live == 0


def system(root: Path, meminfo: str = "", cgroup: str = "", **files: str) -> None:
    for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, **files}.items():
        if text:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    return tmp_path


MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"


def test_this_machine_has_some():
    assert 1 << 20 < free_bytes(CPU) < 1 << 50


def test_linux(root):
    system(root, MEMINFO)
    assert free_bytes(CPU) == 8000 * 1024


def test_a_control_group_of_version_2_limits_it(root):
    files = {"memory.max": "5000000\n", "memory.current": "2000000\n", "memory.stat": "anon 7\ninactive_file 30\n"}
    system(root, MEMINFO, "0::/a/b\n", **{f"sys/fs/cgroup/a/{name}": text for name, text in files.items()})
    system(root, **{"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "5\n"})
    assert free_bytes(CPU) == 3000030
    system(root, **{"sys/fs/cgroup/memory.max": "900\n", "sys/fs/cgroup/memory.current": "1000\n"})  # seen as the root
    assert free_bytes(CPU) == 0


def test_a_control_group_of_version_1_limits_it(root):
    home = "sys/fs/cgroup/memory/docker/x"
    system(root, MEMINFO, "3:cpu,cpuacct:/docker/x\n2:memory:/docker/x\n1:name=systemd:/docker/x\n")
    system(root, **{f"{home}/memory.limit_in_bytes": "6000000\n", f"{home}/memory.usage_in_bytes": "1000000\n"})
    assert free_bytes(CPU) == 5000000
    system(root, **{f"{home}/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n"})
    assert free_bytes(CPU) == 5000500
    system(root, **{f"{home}/memory.limit_in_bytes": f"{2**63 - 4096}\n"})  # how version 1 says that there is none
    assert free_bytes(CPU) == 8000 * 1024


def test_other_systems(root, monkeypatch):
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert free_bytes(CPU) == 500 * 4096
    monkeypatch.delattr(memory.os, "sysconf")
    assert free_bytes(CPU) == 2 << 30


def test_on_a_gpu_what_torch_has_reserved_and_not_used_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert free_bytes(torch.device("cuda", 0)) == 1200
