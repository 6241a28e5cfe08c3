"""The HTML pages are built without a warning, and the notebook runs."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quick_start.ipynb"


def _environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "projects"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_the_pages_are_read_and_linked_without_a_warning(tmp_path, monkeypatch):
    """What ``make docs`` does but for writing the HTML."""
    _environment(monkeypatch)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "dummy"]
    command += ["-c", "docs/sphinx", "-d", str(tmp_path / "doctrees"), ".", str(tmp_path / "pages")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_notebook_runs_from_a_dataset_to_scores(monkeypatch):
    _environment(monkeypatch)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (training,) = [cell for cell in notebook.cells if cell.source.startswith("STEPS = ")]
    # Four steps instead of two hundred, on sixteen images.
    training.source = training.source.replace("STEPS = 200", "STEPS = 4")
    notebook.cells[2].source = notebook.cells[2].source.replace("num_train=200", "num_train=16")
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=600, resources=folder).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = "".join(str(output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "model_final.pth" in texts and "'PQ stuff': " in texts
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebook_is_saved_small_with_its_outputs_and_names_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert "image/jpeg" in text and os.sep + "tmp" not in text
