"""Find a task by the name that its owner typed: a module on the path, or a Python file."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

from learning_tasks.seam import Task, TaskError

_OF_TORCH_TASK = ("build_model", "load_data", "loss")
_OF_TORCH_TASK_WITH_POOL = ("build_model", "load_pool", "loss")
_OF_NUMPY_TASK = ("initial_weights", "load_data", "train", "evaluate")


def load_task(name: str) -> Task:
    """The task called `name`: a dotted module ("learning_tasks.linear") or a file ("my_task.py").

    Importing runs the file's code. That is safe because the name comes from the command line or
    the configuration of the one who runs this program. An offer carries a task's name too, but
    only to be compared: nothing that arrives from the network may ever be passed in here.

    Raises `TaskError`, which names the file, what is missing and what to do.
    """
    module = _import_file(Path(name)) if name.endswith(".py") else _import_module(name)
    if hasattr(module, "build_model"):
        return _torch_task(module, name)
    if hasattr(module, "initial_weights"):
        _require(module, name, _OF_NUMPY_TASK)
        return cast(Task, module)
    raise TaskError(
        f"{name} is not a task: define build_model() for a torch model, "
        "or initial_weights(seed) for one without torch"
    )


def _torch_task(module: ModuleType, name: str) -> Task:
    has_pool = hasattr(module, "load_pool")
    _require(module, name, _OF_TORCH_TASK_WITH_POOL if has_pool else _OF_TORCH_TASK)
    # Imported only here, so that a task without torch needs no torch.
    from learning_tasks.torch_training import TorchTask, TorchTaskFile

    return TorchTask(cast(TorchTaskFile, module))


def _require(module: ModuleType, name: str, functions: tuple[str, ...]) -> None:
    missing = [function for function in functions if not callable(getattr(module, function, None))]
    if missing:
        raise TaskError(
            f"{name} defines {functions[0]} but not {', '.join(missing)}: "
            f"a task of this kind needs {', '.join(functions)}"
        )


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)  # noqa: TID251
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise TaskError(
                f"there is no module {error.name} for the task {name}: give the dotted name of "
                "an installed module, or the path of a file that ends in .py"
            ) from error
        raise _failed_import(name, error) from error
    except Exception as error:
        raise _failed_import(name, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TaskError(f"there is no task file {path} (looked in {Path.cwd()})")
    module_name = f"fedmqtt_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)  # noqa: TID251
    assert spec is not None and spec.loader is not None, "the name of a .py file gives a loader"
    module = importlib.util.module_from_spec(spec)  # noqa: TID251
    # Dataclasses and pickling look their module up by name while the file is still running.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _failed_import(str(path), error) from error
    return module


def _failed_import(name: str, error: Exception) -> TaskError:
    # The owner's file can raise anything at all; the cause stays attached for --verbose.
    kind = type(error).__name__
    return TaskError(f"the task {name} cannot be imported ({kind}: {error}): correct it first")
