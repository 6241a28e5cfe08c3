"""--register MODULE: datasets that user code registers are there in every command."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from deeplab2_d2.data import check, convert
from deeplab2_d2.data.show import __main__ as show
from deeplab2_d2.data.user_code import register_user_modules
from deeplab2_d2.engine import argument_parser

_CODE = """
from detectron2.data import DatasetCatalog, MetadataCatalog
from deeplab2_d2.data import panoptic_metadata
DatasetCatalog.register("users_set", lambda: [])
MetadataCatalog.get("users_set").set(
    panoptic_json={json!r}, panoptic_root="", image_root="", label_divisor=1000,
    **panoptic_metadata([{{"id": 1, "name": "apple", "isthing": 1}}]))
"""


@pytest.fixture
def module(tmp_path):
    json_file = tmp_path / "set.json"
    json_file.write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "my_sets.py").write_text(_CODE.format(json=str(json_file)))
    yield tmp_path / "my_sets.py"
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("users_set", None)


def test_a_file_registers_its_sets_once(module, capsys):
    for _ in range(2):
        assert check.main(["users_set", "--register", str(module)]) == 0
    assert "users_set: 0 images, 0 errors" in capsys.readouterr().out


def test_a_module_of_the_working_directory_is_found(module, monkeypatch):
    monkeypatch.chdir(module.parent)
    register_user_modules(["my_sets"])
    assert "users_set" in DatasetCatalog.list()


@pytest.mark.parametrize(
    "name, code, reason",
    [
        ("none.py", None, "no file"),
        ("no_such_module", None, "ModuleNotFoundError"),
        ("broken.py", "def (", "SyntaxError"),
        ("twice.py", _CODE.format(json="") * 2, "already registered"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(module, name, code, reason, capsys):
    path = str(module.parent / name) if name.endswith(".py") else name
    if code is not None:
        (module.parent / name).write_text(code)
    with pytest.raises(ValueError, match=f"--register .*{name} cannot be imported: .*{reason}"):
        register_user_modules([path])


@pytest.mark.parametrize("main", [check.main, convert.main, show.main])
def test_every_command_knows_the_option(main, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--register module" in capsys.readouterr().out
    assert argument_parser().parse_args(["--register", "a.py"]).register == ["a.py"]
