"""The regions of Huawei Cloud, to find a misspelt one."""

from __future__ import annotations

import difflib
from typing import Final

REGIONS: Final = """
    ae-ad-1 af-north-1 af-south-1 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4
    ap-southeast-5 cn-east-2 cn-east-3 cn-east-4 cn-east-5 cn-north-1 cn-north-11 cn-north-12
    cn-north-2 cn-north-4 cn-north-9 cn-south-1 cn-south-2 cn-south-4 cn-southwest-2
    cn-southwest-3 eu-west-0 eu-west-101 la-north-2 la-south-2 me-east-1 my-kualalumpur-1
    na-mexico-1 ru-moscow-1 ru-northwest-2 sa-brazil-1 tr-west-1
""".split()  # noqa: SIM905 - as a list it is 34 lines
"""The regions in the official SDK's table for DCS; a new region may be missing."""


def doubt_of_region(region: str) -> str:
    """Return why a region is probably misspelt; empty if the SDK knows it.

    A region of another cloud, or a new one, is not in the table either.
    """
    if region in REGIONS:
        return ""
    near = difflib.get_close_matches(region.lower(), REGIONS, n=1)
    hint = f"did you mean {near[0]}?" if near else "for another cloud, set cloud or endpoint"
    return f"{region} is no region that the official SDK knows: {hint}"
