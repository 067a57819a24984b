"""Optional parts: what they need, and how to install it."""

from importlib.util import find_spec

from cnntrain.errors import ConfigError

# The modules that each extra of pyproject.toml brings.
MODULES = {
    "report": ("matplotlib",),
    "explain": ("captum",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "heic": ("pillow_heif",),
    "serve": ("starlette", "uvicorn", "python_multipart"),
}


def is_installed(extra: str) -> bool:
    """Whether all that an extra brings is there; nothing is imported."""
    return all(find_spec(module) for module in MODULES[extra])


def how_to_install(extra: str) -> str:
    """The command."""
    return f"pip install 'cnntrain[{extra}]'"


def need(extra: str, what: str) -> None:
    """To be called before an extra's modules are imported.

    Args:
        extra: One of `MODULES`.
        what: What needs it, such as `--format onnx`.

    Raises:
        ConfigError: It is not installed.
    """
    missing = [module for module in MODULES[extra] if not find_spec(module)]
    if missing:
        raise ConfigError(f"{what} needs {', '.join(missing)}, not installed here: {how_to_install(extra)}")
