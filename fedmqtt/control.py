"""SCAFFOLD's control variates where they travel: behind the numbers of what they belong to.

    model file    | conv.weight | head.weight | :control |      the server's, as one more tensor
    update        | change of the weights | change of the client's own control |

A model's layout, fingerprint and checkpoint are without. Personal layers have no control.

All are in units of a local step, the learning rate times the paper's c: how far each step moves a
weight by them. So `limits.change_max` holds for them too, and both halves of an update are of
similar size for its codec.
"""

from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout

NAME = ":control"


def beside(layout: Layout, size: int) -> Layout:
    """Of the file with a model of this layout and `size` numbers of a control; 0: it has none.

    Raises SettingsError where a tensor of the model has the control's name.
    """
    if not size:
        return layout
    if any(name == NAME for name, _ in layout.tensors):
        raise SettingsError(
            f"aggregation: the model has a tensor {NAME!r}, and that is what its control is called;"
            " give the tensor another name, or choose another strategy"
        )
    return Layout((*layout.tensors, (NAME, (size,))))


def split(layout: Layout, flat: Array) -> tuple[Layout, Array, Array | None]:
    """A model's own layout and numbers in a file's, and its control, if there is one."""
    if not layout.tensors or layout.tensors[-1][0] != NAME:
        return layout, flat, None
    own = Layout(layout.tensors[:-1])
    return own, flat[: own.size], flat[own.size :]
