"""Hubs: files that are here are taken from here; else it is said what is asked for, and no network shows at once."""

import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.hub

import whycam
from whycam.models import hub

URL = "https://download.example.org/models/net-0123abcd.pth"


@pytest.mark.parametrize("how", ["refuse", "hang", "no names"])
def test_without_a_network_the_error_comes_at_once_and_says_what_and_what_to_do(internet, torch_home, how):
    internet.how = how
    started = time.perf_counter()
    with pytest.raises(whycam.WhycamError) as caught:
        hub.from_url(URL, "torchvision:net")
    assert time.perf_counter() - started < 2
    assert len(internet.asked) == 1  # and no second time
    assert str(caught.value) == (
        f"'torchvision:net' would fetch {URL} from download.example.org, since it is not on this machine, and "
        "download.example.org cannot be reached. Connect to the network, or do without: give a file of weights "
        "(--weights FILE, weights=FILE), or look at the structure alone (--weights random, weights='random')."
    )
    assert not torch_home.exists() or not list(torch_home.iterdir())


def test_a_file_that_is_here_needs_no_network(internet, torch_home):
    torch_home.mkdir(parents=True)
    (torch_home / "net-0123abcd.pth").write_bytes(b"here")
    assert hub.from_url(URL, "torchvision:net").read_bytes() == b"here"
    assert internet.asked == []


def serve(monkeypatch, content):
    """An internet of one file."""
    asked = []

    class Answer:
        def __init__(self):
            self.left = content

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def info(self):
            return SimpleNamespace(get_all=lambda _: [str(len(content))])

        def read(self, size):
            part, self.left = self.left[:size], self.left[size:]
            return part

    def opened(request):
        asked.append(request.full_url)
        return Answer()

    monkeypatch.setattr(torch.hub, "urlopen", opened)
    return asked


def test_what_is_fetched_is_said_and_kept(internet, torch_home, monkeypatch, capsys):
    internet.how = "answer"
    content = b"weights" * 99
    url = f"https://download.example.org/net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    asked = serve(monkeypatch, content)
    with pytest.warns(UserWarning, match=f"^torchvision:net: fetching {url} from download.example.org$"):
        path = hub.from_url(url, "torchvision:net")
    assert path == torch_home / Path(url).name
    assert path.read_bytes() == content
    assert hub.from_url(url, "torchvision:net") == path
    assert asked == [url]
    assert capsys.readouterr().out == ""  # which may be a JSON document's


def test_a_file_of_another_digest_is_refused_and_not_kept(internet, torch_home, monkeypatch):
    internet.how = "answer"
    serve(monkeypatch, b"something else")
    with (
        pytest.warns(UserWarning, match="fetching"),
        pytest.raises(whycam.WhycamError, match=r"could not be fetched: invalid hash value \(expected \"0123abcd\""),
    ):
        hub.from_url(URL, "torchvision:net")
    assert list(torch_home.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "asked"),
    [("https_proxy", "http://proxy.example.org:3128", [3128]), ("all_proxy", "proxy.example.org:99", [99]),
     ("http_proxy", "http://proxy.example.org:3128", [443])],
)  # fmt: skip
def test_the_one_who_must_answer_is_the_proxy_if_there_is_one(internet, monkeypatch, variable, value, asked):
    internet.how = "answer"
    monkeypatch.setenv(variable, value)
    assert hub.reachable("https://huggingface.co")
    assert [address[1] for address in internet.asked] == asked


def test_no_proxy_where_none_is_wanted(internet, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "mirror.example.org")
    hub.reachable("https://mirror.example.org:8443/models")
    assert [address[1] for address in internet.asked] == [8443]


def test_a_repository_in_the_cache_needs_no_network(internet, hf_home):
    folder = hf_home("timm/net", {"pytorch_model.bin": b"old", "model.safetensors": b"new"})
    names = ["model.safetensors", "pytorch_model.bin"]
    assert hub.from_repository("timm/net", names, "timm:net") == folder / "model.safetensors"
    (folder / "model.safetensors").unlink()
    assert hub.from_repository("timm/net", names, "timm:net") == folder / "pytorch_model.bin"
    assert internet.asked == []


def test_a_repository_that_is_not_here_is_named(internet, hf_home):
    with pytest.raises(whycam.WhycamError) as caught:
        hub.from_repository("timm/net", ["model.safetensors"], "timm:net")
    assert str(caught.value).startswith(
        "'timm:net' would fetch timm/net/model.safetensors from huggingface.co, since it is not on this machine, and "
        "huggingface.co cannot be reached. Connect"
    )
    assert len(internet.asked) == 1


def test_offline_is_offline(internet, hf_home, monkeypatch):
    from huggingface_hub import constants

    internet.how = "answer"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(whycam.WhycamError, match="not on this machine, and HF_HUB_OFFLINE is set"):
        hub.from_repository("timm/net", ["model.safetensors"], "timm:net")
    assert internet.asked == []


def test_safetensors_are_asked_for_first_and_others_only_if_there_are_none(internet, hf_home, monkeypatch, tmp_path):
    import huggingface_hub

    internet.how = "answer"
    asked = []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision))
        if name == "model.safetensors":
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.warns(UserWarning, match="timm:net: fetching timm/net/model.safetensors from huggingface.co"):
        path = hub.from_repository("timm/net@v2", ["model.safetensors", "pytorch_model.bin"], "timm:net")
    assert path == tmp_path / "pytorch_model.bin"
    assert asked == [("timm/net", "model.safetensors", "v2"), ("timm/net", "pytorch_model.bin", "v2")]
    with (
        pytest.warns(UserWarning, match="fetching"),
        pytest.raises(whycam.WhycamError, match=r"timm/net on the Hugging Face hub has none of model\.safetensors\.$"),
    ):
        hub.from_repository("timm/net", ["model.safetensors"], "timm:net")


def test_a_hub_s_refusal_is_one_line(internet, hf_home, monkeypatch):
    import huggingface_hub

    internet.how = "answer"

    def download(*_, **__):
        raise OSError("\n401 Client Error.\n\nRepository Not Found, and much more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with (
        pytest.warns(UserWarning, match="fetching"),
        pytest.raises(whycam.WhycamError) as caught,
    ):
        hub.from_repository("timm/net", ["model.safetensors"], "timm:net")
    assert str(caught.value) == "'timm:net': timm/net could not be had from the Hugging Face hub: 401 Client Error."
