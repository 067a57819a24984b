"""The ways in which a user's mistake, or their machine, can stop cnntrain.

Each kind has an exit code. The command line prints the message alone, without a traceback.
"""


class CnntrainError(Exception):
    """Something the user can put right. The message says what, where and what to do next.

    Args:
        message: What is wrong, what was found, what is allowed.
        key: The dotted configuration key concerned, such as `data.image_size`. Whoever knows
            the file adds its name and line (see `cnntrain.config.locate`).
    """

    exit_code = 1

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class ConfigError(CnntrainError):
    """A wrong configuration or a wrong use of a command."""

    exit_code = 2


class DataError(CnntrainError):
    """Images or labels that are missing, unreadable or unusable."""

    exit_code = 3


class CheckpointError(CnntrainError):
    """A run or a checkpoint that is missing, damaged or does not fit."""

    exit_code = 4


class DeviceError(CnntrainError):
    """A device that this machine does not have, or that has too little memory."""

    exit_code = 5


class NumericalError(CnntrainError):
    """A loss that is no longer a finite number."""

    exit_code = 6


class StorageError(CnntrainError):
    """A folder or file that cannot be written."""

    exit_code = 7


class ReproductionError(CnntrainError):
    """A test result outside the band that its configuration states."""

    exit_code = 8


class Interrupted(CnntrainError):
    """Ctrl-C (130), or a signal that asks to stop (75)."""

    exit_code = 130
