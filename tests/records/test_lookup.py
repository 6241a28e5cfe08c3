"""The table of records: who has one, and what is refused."""

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import SemanticSegmentor
from torch import nn

from deeplab2_d2.config import add_deeplab2_config, validate_config
from deeplab2_d2.models import max_deeplab, panoptic_deeplab
from deeplab2_d2.models.axial_deeplab import DeepLab2AxialDeepLab
from deeplab2_d2.models.max_deeplab import DeepLab2MaXDeepLab
from deeplab2_d2.models.panoptic_deeplab import DeepLab2PanopticDeepLab
from deeplab2_d2.records import ModelRecord, all_records, find_record, register


class Toy(nn.Module):
    """A user's model."""


class SmallToy(Toy):
    """A user's variant of it."""


def config_of(name):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = name
    return cfg


@pytest.mark.parametrize(
    "kind, record",
    [
        (DeepLab2MaXDeepLab, max_deeplab.RECORD),
        (DeepLab2PanopticDeepLab, panoptic_deeplab.RECORD),
        (DeepLab2AxialDeepLab, panoptic_deeplab.RECORD),
    ],
)
def test_a_config_and_a_model_have_the_record_of_their_class_or_its_base(kind, record):
    assert find_record(config_of(kind.__name__)) is record
    model = kind.__new__(kind)
    assert find_record(model) is record


def test_a_model_without_a_record_has_none(meta_architecture):
    meta_architecture(Toy)
    assert find_record(config_of("Toy")) is None
    assert find_record(Toy()) is None
    assert find_record(config_of("GeneralizedRCNN")) is None


def test_an_unknown_meta_architecture_is_named():
    with pytest.raises(KeyError, match="NoSuchModel"):
        find_record(config_of("NoSuchModel"))


def test_a_function_that_builds_models_has_no_record(meta_architecture):
    def build_toy(cfg):
        return Toy()

    meta_architecture(build_toy)
    assert find_record(config_of("build_toy")) is None


def test_the_nearest_base_decides(own_table):
    of_toy, of_small = ModelRecord(), ModelRecord(outputs=lambda cfg: ("sem_seg",))

    class Another(DeepLab2MaXDeepLab):
        pass

    class Both(SmallToy, Another):
        pass

    register(Toy, of_toy)
    assert find_record(SmallToy()) is of_toy
    register(SmallToy, of_small)
    assert find_record(SmallToy()) is of_small and find_record(Toy()) is of_toy
    # As Python looks methods up: the first base's line comes first.
    assert find_record(Both.__new__(Both)) is of_small


def test_a_second_record_is_refused(own_table):
    with pytest.raises(ValueError, match="DeepLab2MaXDeepLab has a record already"):
        register(DeepLab2MaXDeepLab, ModelRecord())
    assert find_record(config_of("DeepLab2MaXDeepLab")) is max_deeplab.RECORD


def test_words_of_checkpoints_name_one_module(own_table):
    words, module = panoptic_deeplab.RECORD.checkpoint_modules[0]
    register(Toy, ModelRecord(checkpoint_modules=((words, module),)))
    message = f"begin with '{words}' name '{module}' already, SmallToy has 'elsewhere.'"
    with pytest.raises(ValueError, match=message):
        register(SmallToy, ModelRecord(checkpoint_modules=((words, "elsewhere."),)))
    # What is refused leaves no trace.
    assert SmallToy not in dict(all_records())


def test_words_of_one_record_name_one_module(own_table):
    modules = (("toy_words/", "here."), ("toy_words/", "there."))
    with pytest.raises(ValueError, match="'toy_words/' name 'here.' already, Toy has 'there.'"):
        register(Toy, ModelRecord(checkpoint_modules=modules))
    assert Toy not in dict(all_records())


def test_keys_of_a_record_are_in_every_config_and_checked_for_its_model(
    own_table, meta_architecture
):
    def add_config(cfg):
        cfg.MODEL.DEEPLAB2.TOY_WIDTH = 1

    def check_config(cfg):
        if cfg.MODEL.DEEPLAB2.TOY_WIDTH < 1:
            raise ValueError("TOY_WIDTH must be at least 1")

    meta_architecture(SmallToy)
    register(Toy, ModelRecord(add_config=add_config, check_config=check_config))
    cfg = config_of("SmallToy")
    cfg.INPUT.CROP.SIZE = [65, 65]
    validate_config(cfg)
    cfg.MODEL.DEEPLAB2.TOY_WIDTH = 0
    with pytest.raises(ValueError, match="TOY_WIDTH must be at least 1"):
        validate_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    validate_config(cfg)


def test_detectron2s_semantic_segmentor_has_checkpoint_names_alone():
    record = find_record(config_of("SemanticSegmentor"))
    assert record is find_record(SemanticSegmentor.__new__(SemanticSegmentor))
    assert record.checkpoint_modules and record.option_rules
    assert record.build_mapper is None and record.check_config is None
    assert record.averaging is None and record.build_oracle is None
