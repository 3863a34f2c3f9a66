"""The gradients of many clients' models at once, as one straight list of tensor operations.

`torch.func` computes them for all clients in one go, but pays for two layers of wrapping around
every operation, at every step. So they are recorded once per shape, and the recording is replayed:

    grad and vmap of (model, loss) ──make_fx──▶ operations ──shortened──▶ Step

What is shortened is said at each function. All of it keeps the arithmetic but two things, which
change the last bits: a norm is computed as the root of a sum of squares, and a product that is a
weight's gradient is left to whoever adds it to the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

_aten = torch.ops.aten

_VIEWS = (_aten.view.default, _aten._unsafe_view.default, _aten.expand.default)

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
"""Of one client: its parameters, a batch of inputs and the targets to the loss, one number."""


@dataclass(frozen=True, slots=True)
class Product:
    """A gradient of shape (clients, m, n) that is not multiplied out: left @ right per client."""

    left: Tensor  # (clients, m, batch)
    right: Tensor  # (clients, batch, n)


@dataclass(frozen=True, slots=True)
class Step:
    """The recording for one number of clients and one shape of batch."""

    _run: Callable[..., Sequence[Tensor]]
    _is_product: tuple[bool, ...]

    def __call__(
        self, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor
    ) -> tuple[list[Tensor | Product], Tensor]:
        """Each parameter's gradient, and the losses, shape (clients,).

        Every argument has the clients as its first dimension.
        """
        found = iter(self._run(*parameters, inputs, targets))
        gradients: list[Tensor | Product] = [
            Product(next(found), next(found)) if is_product else next(found)
            for is_product in self._is_product
        ]
        return gradients, next(found)


def record(loss: Loss, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Step:
    """Record the step for arguments of these shapes; the clients are the first dimension.

    Raises whatever `torch.func` says of a model that it cannot treat: one that draws chance, that
    changes its buffers, or whose flow depends on the numbers.
    """
    gradients_and_loss = vmap(grad_and_value(loss))

    def flat(*arguments: Tensor) -> list[Tensor]:
        *given, x, y = arguments
        gradients, losses = gradients_and_loss(given, x, y)
        return [*gradients, losses]

    with torch.no_grad():
        module = make_fx(flat)(*parameters, inputs, targets)
    graph = module.graph
    _plain_norms(graph)
    _drop_idle_views(graph)
    # First, so that what nobody needs does not count as a user of a product.
    graph.eliminate_dead_code()
    is_product = _keep_products(graph)
    graph.eliminate_dead_code()
    _call_directly(graph)
    graph.lint()
    module.recompile()
    # Not through __call__: a module looks for hooks first, at every step.
    return Step(module.forward, is_product)


def _plain_norms(graph: fx.Graph) -> None:
    """The length of vectors that do not lie in one piece takes torch 20 times as long as this."""
    for node in graph.find_nodes(op="call_function", target=_aten.linalg_vector_norm.default):
        vectors, *rest = node.args
        order, dims, keep = (*rest, *(2, None, False)[len(rest) :])[:3]
        if order != 2 or dims is None or node.kwargs:
            continue
        with graph.inserting_before(node):
            squares = graph.call_function(_aten.mul.Tensor, (vectors, vectors))
            sums = graph.call_function(_aten.sum.dim_IntList, (squares, dims, keep))
            roots = graph.call_function(_aten.sqrt.default, (sums,))
        roots.meta = dict(node.meta)
        node.replace_all_uses_with(roots)
        graph.erase_node(node)


def _drop_idle_views(graph: fx.Graph) -> None:
    """Half of what vmap records of a linear layer is views that change nothing."""
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        same = _same_as(node)
        if same is not None:
            node.replace_all_uses_with(same)
            graph.erase_node(node)


def _same_as(node: fx.Node) -> fx.Node | None:
    """An earlier node with the same numbers in the same shape, of which this one is a view."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if node.target in _VIEWS and _shape(node) == _shape(source):
        return source
    if node.target is _aten.transpose.int and source.target is _aten.transpose.int:
        (first, *dims), (_, *earlier) = source.args, node.args
        if isinstance(first, fx.Node) and sorted(map(str, dims)) == sorted(map(str, earlier)):
            return first
    return None


def _keep_products(graph: fx.Graph) -> tuple[bool, ...]:
    """Give out both factors of a gradient that is a product: it need never be written down.

    Multiplied straight into the weights it saves writing and reading a gradient as large as they
    are, a sixth of the step.
    """
    (output,) = graph.find_nodes(op="output")
    (*gradients, losses) = output.args[0]
    given: list[Any] = []
    is_product: list[bool] = []
    for gradient in gradients:
        whole = gradient.target is _aten.bmm.default and len(gradient.users) == 1
        is_product.append(whole)
        given += gradient.args if whole else [gradient]
    output.args = ([*given, losses],)
    return tuple(is_product)


def _call_directly(graph: fx.Graph) -> None:
    """Call torch's own functions: the way through `torch.ops` is Python, 1 µs at each call."""
    for node in graph.nodes:
        direct = _DIRECT.get(node.target)
        if node.op == "call_function" and direct is not None:
            node.target = direct


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else None


# Those with the same arguments in the same order; what is missing here is only slower.
_DIRECT: dict[Any, Callable[..., Any]] = {
    _aten.add.Tensor: torch.add,
    _aten.bmm.default: torch.bmm,
    _aten.cat.default: torch.cat,
    _aten.div.Tensor: torch.div,
    _aten.expand.default: Tensor.expand,
    _aten.mul.Scalar: torch.mul,
    _aten.mul.Tensor: torch.mul,
    _aten.ne.Scalar: torch.ne,
    _aten.neg.default: torch.neg,
    _aten.permute.default: torch.permute,
    _aten.relu.default: torch.relu,
    _aten.sqrt.default: torch.sqrt,
    _aten.sub.Tensor: torch.sub,
    _aten.sum.dim_IntList: torch.sum,
    _aten.transpose.int: torch.transpose,
    _aten.unsqueeze.default: torch.unsqueeze,
    _aten.view.default: Tensor.view,
    _aten._unsafe_view.default: Tensor.view,
    _aten.where.self: torch.where,
}
