"""Sharded checkpoints of the LLaVA type: an image tower in the last shards of a large language model.

Language tensors are holes in the files: they have the size of the real ones and take no disk space.
"""

import json
import zipfile

import torch

PREFIX = "model.vision_tower.vision_tower.vision_model."
CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def write_safetensors(file, tensors, holes):
    """``tensors`` with their values; ``holes`` (name -> shape) as bfloat16 zeros that are not stored."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    entries = [(k, v.dtype, list(v.shape)) for k, v in tensors.items()]
    entries += [(k, torch.bfloat16, list(shape)) for k, shape in holes.items()]
    for name, dtype, shape in entries:
        start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        header[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            handle.write(raw(tensor))
        handle.truncate(8 + len(text) + end)


def write_torch(file, tensors, holes):
    """The same in torch's own format: space is reserved for all, and filled for ``tensors``."""
    content = dict(tensors) | {k: torch.empty(s, dtype=torch.bfloat16) for k, s in holes.items()}
    with torch.serialization.skip_data():
        torch.save(content, file)
    with zipfile.ZipFile(file) as archive, open(file, "r+b") as handle:
        for place, tensor in enumerate(tensors.values()):
            start = archive.getinfo(f"{file.stem}/data/{place}").header_offset
            handle.seek(start + 26)
            lengths = int.from_bytes(handle.read(2), "little") + int.from_bytes(handle.read(2), "little")
            handle.seek(start + 30 + lengths)
            handle.write(raw(tensor))


def raw(tensor):
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def write_llava(folder, tower, kind, language=0):
    """Three shards and their index: language, language with the tower's first half, its second half.

    ``kind``: safetensors or bin; ``language``: elements of each of the language tensors. Returns the
    published names of files -> their paths, as a record of fetched weights gives them.
    """
    suffix, stem, write = {
        "safetensors": ("safetensors", "model", write_safetensors),
        "bin": ("bin", "pytorch_model", write_torch),
    }[kind]
    published = {PREFIX + k: v for k, v in tower.items()}
    names = list(published)
    half = len(names) // 2
    parts = [
        ({}, {"model.embed_tokens.weight": (language,), "model.layers.0.mlp.up_proj.weight": (language,)}),
        ({k: published[k] for k in names[:half]}, {"model.layers.1.mlp.up_proj.weight": (language,)}),
        ({k: published[k] for k in names[half:]}, {"lm_head.weight": (language,)}),
    ]
    files, index = {}, {}
    for i, (tensors, holes) in enumerate(parts, 1):
        name = f"{stem}-{i:05d}-of-00003.{suffix}"
        write(folder / name, tensors, holes)
        files[name] = folder / name
        index |= dict.fromkeys([*tensors, *holes], name)
    path = folder / f"{stem}.{suffix}.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return files | {path.name: path}
