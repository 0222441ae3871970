"""What a release carries: one version everywhere, and a wheel that works wherever it lands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gpuctl

pytestmark = pytest.mark.program

ROOT = Path(__file__).resolve().parents[1]

#: Asked of the installed package, from a folder that is not the repository.
QUESTION = """
import json
from importlib.resources import files
import gpuctl
from gpuctl.profile.files import shipped
package = files("gpuctl")
print(json.dumps({
    "package": str(package),
    "version": gpuctl.__version__,
    "profiles": {name: str(path) for name, path in shipped().items()},
    "units": sorted(unit.name for unit in (package / "data" / "units").iterdir()),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published, built without fetching anything."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def names(folder: str) -> list[str]:
    return sorted(path.name for path in (ROOT / folder).iterdir())


def test_the_wheel_is_found_wherever_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """Profiles and units lie inside the package, and the package finds its own."""
    target = tmp_path / "anywhere"
    pip("install", "--no-deps", "--no-index", f"--target={target}", str(wheel))
    ran = subprocess.run(
        [sys.executable, "-c", QUESTION],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    profiles = target / "gpuctl" / "data" / "profiles"
    assert json.loads(ran.stdout) == {
        "package": str(target / "gpuctl"),
        "version": gpuctl.__version__,
        "profiles": {Path(n).stem: str(profiles / n) for n in names("profiles")},
        "units": names("units"),
    }


def test_the_wheel_carries_the_package_and_nothing_else(wheel: Path) -> None:
    """No test, rig or document of the repository ends up in somebody's site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {"gpuctl"}
    assert "gpuctl/py.typed" in held
    assert "gpuctl/adapters/process/shim.py" in held
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_the_newest_release_is_this_version() -> None:
    """CHANGELOG begins with Unreleased or a version; its newest version is the package's."""
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings[:1] == ["Unreleased"] or headings[:1] == [gpuctl.__version__]
    assert released[:1] in ([], [gpuctl.__version__])
