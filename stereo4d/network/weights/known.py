"""Published files that are known by their checksum, and what may be done with them."""

from __future__ import annotations

PUBLISHED_LICENCE = "CC BY-NC-SA 4.0 (non-commercial), and the licences of the data it was trained on"

KNOWN_FILES = {
    "7c300a89534113436bde52732d3151212bcbd90f0aa3c8d1496f86d84bfe4b42": "DUSt3R 512 dpt",
    "53089f3bf16ef8d546d9c00232474f2b42490ce359986a1795795c6dc07a3e57": "MonST3R 512 dpt",
    "0a615eb05fa9db654050aa655945ee5696e7c6c1b7f93f1ee8c37249010f6feb": "MASt3R 512 catmlpdpt metric",
}
"""sha256 of a published ``model.safetensors`` -> what it is."""
