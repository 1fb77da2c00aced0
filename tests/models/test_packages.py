"""Optional packages that are absent or broken: what does not need them works, and what needs them says what to do."""

import subprocess
import sys

import pytest

import whycam
from whycam.models.packages import importing, optional

#: What needs no torchvision, and must work whatever has become of it.
WORKS = """
import torch, whycam
from torch import nn

net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
e = whycam.explain(net, torch.rand(2, 3, 16, 16))
assert e.maps.shape == (2, 14, 14), e.maps.shape
assert len(whycam.load("builtin").labels) == 1000
"""

SAYS = """
for spec in ("torchvision:resnet18", "timm:resnet18"):
    try:
        whycam.load(spec, weights="random")
    except ImportError as error:
        assert isinstance(error, whycam.WhycamError), type(error)
        print(error)
    else:
        raise AssertionError(spec)
"""

#: A tiny model of transformers', random, and its processor explain a photo.
HF = """
import numpy as np, transformers

config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                                image_size=32, patch_size=8)
transformers.ViTForImageClassification(config).save_pretrained("saved")
transformers.AutoImageProcessor
open("saved/preprocessor_config.json", "w").write(
    '{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}')
e = whycam.explain("saved", np.zeros((40, 50, 3), np.uint8))
assert np.allclose(e.context.geometries[0].scale, (40 / 32, 50 / 32), rtol=1e-3), e.context.geometries
"""


def run(code, folder):
    """Run code in a fresh interpreter, in an empty folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_torchvision(tmp_path):
    blocked = "import sys\nsys.modules['torchvision'] = None\n"
    said = run(blocked + WORKS + SAYS + HF, tmp_path)
    assert said == [
        "'torchvision:resnet18' needs torchvision, which is not installed: pip install 'whycam[torchvision]'",
        "'timm:resnet18' needs torchvision, which is not installed: pip install 'whycam[timm]'",
    ]


#: A torchvision that fails as one does that was built for another torch.
BROKEN = """
import importlib.abc, importlib.machinery, sys

class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name == "torchvision" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise {error}

for name in [name for name in sys.modules if name.startswith("torchvision")]:
    del sys.modules[name]
sys.meta_path.insert(0, Broken())
"""


def broken_here():
    """Whether the torchvision of this machine is broken itself, without the tests' shim."""
    return bool(
        subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, timeout=300).returncode
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [("RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms does not exist"),
     ("OSError('/lib/torchvision/_C.so: undefined symbol: _ZN3c10\\nmore')",
      "/lib/torchvision/_C.so: undefined symbol: _ZN3c10")],
    ids=["operator", "symbol"],
)  # fmt: skip
def test_with_a_torchvision_that_was_built_for_another_torch(tmp_path, error, reason):
    import torch

    said = run(BROKEN.format(error=error) + WORKS + SAYS, tmp_path)
    assert len(said) == 2
    for line, spec in zip(said, ("torchvision:resnet18", "timm:resnet18"), strict=True):
        assert line.startswith(f"'{spec}' needs torchvision, and the one that is installed does not work: torchvision ")
        assert line.endswith(
            f" and torch {torch.__version__} do not fit together ({reason}). Install both anew from one place: "
            "pip install --force-reinstall torch torchvision"
        )


def test_with_the_torchvision_of_this_machine_as_it_is(tmp_path):
    """Without the shim that the other tests use: either it works, or all that is said of it is."""
    if not broken_here():
        pytest.skip("torchvision works here")
    said = run(WORKS + SAYS.replace('("torchvision', '("hf:vit", "torchvision'), tmp_path)
    assert len(said) == 3
    for line, spec in zip(said, ("hf:vit", "torchvision:resnet18", "timm:resnet18"), strict=True):
        assert line.startswith(f"'{spec}' needs torchvision, and the one that is installed does not work: torchvision ")


def test_an_absent_package_is_named_with_its_extra():
    with pytest.raises(whycam.WhycamError) as caught:
        optional("no_such_package_here.part", "timm", "the purpose")
    assert str(caught.value) == (
        "the purpose needs no_such_package_here, which is not installed: pip install 'whycam[timm]'"
    )
    assert isinstance(caught.value, ImportError)


def test_an_absent_package_behind_a_library_s_own_error():
    def late():
        try:
            import no_such_package_here  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError("Could not import module 'AutoModel'.") from error

    with (
        pytest.raises(whycam.WhycamError, match="it needs no_such_package_here, which is not installed: pip install"),
        importing("transformers", "hf", "it"),
    ):
        late()
    with (
        pytest.raises(
            whycam.WhycamError, match=r"it needs a package that is not in order here \(transformers: Model re"
        ),
        importing("transformers", "hf", "it"),
    ):
        raise ImportError("\nModel requires the mystery library\nand more")


def test_other_errors_go_through():
    for error in (ZeroDivisionError("x"), KeyError("x"), whycam.WhycamError("x")):
        with pytest.raises(type(error)), importing("timm", "timm", "it"):
            raise error
