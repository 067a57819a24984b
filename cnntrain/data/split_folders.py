"""Which folder plays train, val and test."""

from collections.abc import Mapping
from pathlib import Path

from cnntrain.data.walking import list_folder
from cnntrain.errors import DataError
from cnntrain.runtime.names import quoted

# By part, the usual names of its folder, in any case.
SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def choose_folders(root: Path, named: Mapping[str, str], notices: list[str]) -> dict[str, Path]:
    """The folder of each part; `train` alone, the root itself, where there are class folders and nothing else.

    Args:
        root: Holds them.
        named: What `data.splits` says. Where it says nothing, folders of the usual names are taken.
        notices: Gets what the user should know, one sentence each.

    Raises:
        DataError: A folder is not there, or it is not clear which is meant.
    """
    present = list_folder(root).visible
    for part, name in named.items():
        if not (root / name).is_dir():
            raise DataError(
                f"{root / name}: no such folder (data.splits.{part}); found: {quoted(present) or 'nothing'}"
            )
    if len({(root / name).resolve() for name in named.values()}) < len(named):
        raise DataError(f"data.splits gives one folder two parts ({dict(named)}); they must not share images")
    if named:
        chosen = {part: part for part in SPLIT_WORDS if part in present and part not in named.values()} | dict(named)
    else:
        chosen = _usual(root, present, notices)
    unused = [name for name in present if name not in chosen.values()]
    split_like = {part: name for part, words in SPLIT_WORDS.items() for name in unused if name.lower() in words}
    hint = "data.splits: " + _as_yaml(chosen | split_like)
    if "train" not in chosen:
        if chosen or split_like:
            raise DataError(f"{root} has no folder train/ but {quoted(present)}; say which plays which part: {hint}")
        return {"train": root}  # class folders and nothing else: all splits are carved from them
    if "val" in chosen and "test" not in chosen and "val" not in named:
        val = chosen["val"]
        say = {part: name for part, name in chosen.items() if part == "train" != name} | {"test": val}
        notices.append(
            f'{root} has "{val}" and no test/: "{val}" is validation, and the test images are carved from '
            f'"{chosen["train"]}". To test on "{val}" instead, set data.splits: {_as_yaml(say)}; '
            f"validation is then carved from the training images"
        )
    if unused:
        notices.append(f"not used in {root}: {quoted(unused)}" + (f"; to use them, set {hint}" if split_like else ""))
    return {part: root / name for part, name in chosen.items()}


def _usual(root: Path, present: list[str], notices: list[str]) -> dict[str, str]:
    """The folders of the usual names."""
    named = {part: [name for name in present if name.lower() in words] for part, words in SPLIT_WORDS.items()}
    for part, names in named.items():
        if len(names) > 1:
            say = {
                other: others[0] for other, others in named.items() if others and (other == part or others[0] != other)
            }
            raise DataError(
                f"{root} has {quoted(names)}, each of which may be meant for {part}; say which with data.splits, "
                f"such as {_as_yaml(say)}, or remove the others"
            )
    chosen = {part: names[0] for part, names in named.items() if names}
    taken = [f'"{name}" is taken for {part}' for part, name in chosen.items() if part != name]
    if taken and "train" in chosen:
        notices.append(f"in {root}, {', '.join(taken)}; data.splits can say otherwise")
    return chosen


def _as_yaml(splits: Mapping[str, str]) -> str:
    return str(dict(splits)).replace("'", "")
