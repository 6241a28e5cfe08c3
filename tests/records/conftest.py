"""Detectron2 is made importable before a test imports it; a small dataset, and registration."""

from typing import Callable, Iterator

import pytest
from shapes_dataset import dataset  # noqa: F401

import deeplab2_d2  # noqa: F401
from deeplab2_d2.records import lookup


@pytest.fixture
def own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that the test registers are gone after it."""
    monkeypatch.setattr(lookup, "_RECORDS", dict(lookup._RECORDS))


@pytest.fixture
def meta_architecture() -> Iterator[Callable[[type], type]]:
    """Registers a class with Detectron2 until the test ends."""
    from detectron2.modeling import META_ARCH_REGISTRY

    names = []

    def register(kind: type) -> type:
        META_ARCH_REGISTRY.register(kind)
        names.append(kind.__name__)
        return kind

    yield register
    for name in names:
        META_ARCH_REGISTRY._obj_map.pop(name)
