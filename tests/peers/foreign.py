"""Programs of others that read what the bridge writes: the Python SDK of CloudEvents and AsyncAPI's meta-schema.

They come from PyPI and npm, pinned to their files' hashes in pypi/ and npm/. They are fetched once, into build/, and again
when the pins change.
"""
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "pypi" / "requirements.txt"
NPM_FILES = [HERE / "npm" / name for name in (".npmrc", "package.json", "package-lock.json")]


def _run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _installed(name, pins, install):
    """The folder that install(folder) filled for these pins. Two that install at once do not meet."""
    state = hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()[:12]
    folder = ROOT / "build" / f"{name}-{state}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        fresh = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
        install(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # somebody was faster
            shutil.rmtree(fresh)
    return folder


def _install_pypi(folder):
    _run("/usr/bin/python3", "-m", "venv", folder)
    _run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
         "--only-binary", ":all:", "-r", REQUIREMENTS)


def _install_npm(folder):
    for path in NPM_FILES:
        shutil.copy(path, folder)
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)


def use_pypi():
    """Makes the packages of requirements.txt importable; what Debian has comes before them."""
    [packages] = _installed("pypi", [REQUIREMENTS], _install_pypi).glob("lib/python3*/site-packages")
    if str(packages) not in sys.path:
        sys.path.append(str(packages))


def asyncapi_meta_schema(version):
    """The official JSON Schema of AsyncAPI documents of a version such as 3.0.0."""
    folder = _installed("npm", NPM_FILES, _install_npm) / "node_modules" / "@asyncapi" / "specs" / "schemas"
    return json.loads((folder / f"{version}.json").read_text(encoding="utf-8"))
