"""What the demos take from the command line."""

import pytest

from deeplab2_d2.engine.demo_arguments import parse_demo_arguments


@pytest.mark.parametrize(
    "words", [["--eval-only"], ["--ensemble", "a.pth"], ["--num-gpus", "2"]], ids=lambda w: w[0]
)
def test_flags_of_other_runs_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        parse_demo_arguments(None, "demo.yaml", "demo", words)
    assert f"{words[0]} has no effect here" in capsys.readouterr().err
    args = parse_demo_arguments(None, "demo.yaml", "demo", ["--resume", "SEED", "1"])
    assert args.resume and args.opts == ["SEED", "1", "OUTPUT_DIR", "output/demo"]
