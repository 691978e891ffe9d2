"""What OpenVINO computes a network in."""

from __future__ import annotations

from pathlib import Path


def floating_types(network: Path) -> set[str]:
    """The floating types of what the operations of an IR give, its constants' among them."""
    import openvino

    model = openvino.Core().read_model(network)
    types = [output.get_element_type() for node in model.get_ops() for output in node.outputs()]
    return {each.get_type_name() for each in types if each.is_real()}
