"""PyTorch's side of a proof: what its subject gives for inputs and weights."""

import copy
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity_kit import probes
from parity_kit.arrays import Leaves, plain_number
from parity_kit.faults import torch_faults
from parity_kit.faults.fault import Fault
from parity_kit.noise.torch_noise import rounding_noise
from parity_kit.results import Results, cotangent, user_code


DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}


def to_numpy(item: Any) -> np.ndarray | None:
    """A tensor or number as NumPy's array; None for anything else."""
    if isinstance(item, Tensor):
        tensor = item.detach().resolve_conj().resolve_neg().cpu()
        tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
        if tensor.dtype in (torch.bfloat16, torch.float16):
            tensor = tensor.float()
        return tensor.numpy().copy()
    return plain_number(item)


def arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers by name; a parameter that two names share has both."""
    named = dict(module.named_parameters(remove_duplicate=False))
    named |= dict(module.named_buffers(remove_duplicate=False))
    return {name: np.asarray(to_numpy(tensor)) for name, tensor in named.items()}


def compute_in_float64() -> None:
    """Let float64 be what torch makes by default, and also what it calls float32.

    So a port that computes "in float32" by name is compared as exactly as one that
    takes what comes.
    """
    # Reads names of types once, which have to be right.
    through_file(torch.zeros(1))
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.complex64 = torch.cfloat = torch.complex128
    Tensor.float = Tensor.double
    nn.Module.float = nn.Module.double


class Subject:
    """A function with its tensors, or a module, made anew for each run."""

    def __init__(
        self,
        module: nn.Module | None,
        function: Any,
        weights: dict,
        around: Callable[[], Any] = nullcontext,
    ) -> None:
        self.module = module
        self.around = around
        self.function = function
        self.weights = weights

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's result."""
        of_weights = self.module is None and self.weights
        with self.around():
            if of_weights:
                return self.function(self.weights, *inputs)
            return self.function(*inputs)

    def parameters(self) -> dict[str, Tensor]:
        """Those that are trained, by name; of a shared one the first name."""
        if self.module is not None:
            return dict(self.module.named_parameters())
        return {n: t for n, t in self.weights.items() if t.is_floating_point()}

    def arrays(self) -> dict[str, np.ndarray]:
        """All parameters and buffers."""
        if self.module is not None:
            return arrays_of(self.module)
        return {n: np.asarray(to_numpy(t)) for n, t in self.weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of it holds."""
        if self.module is not None:
            return self.module.state_dict()
        return {name: tensor.detach() for name, tensor in self.weights.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a checkpoint's content."""
        if self.module is not None:
            self.module.load_state_dict(state)
            return
        for name, tensor in self.weights.items():
            tensor.data.copy_(state[name])


class Side:
    """PyTorch's subject, loss and optimiser; see `results` for what a run gives.

    Args:
        subject: function, module or module class.
        loss: output, inputs -> scalar.
        optimizer: parameters -> optimiser.
        dtype: of all floats.
        device: "cpu" or "cuda".
    """

    framework = "torch"

    def __init__(
        self, subject: Any, loss: Any, optimizer: Any, dtype: str, device: str
    ) -> None:
        self.subject, self.loss, self.make_optimizer = subject, loss, optimizer
        self.dtype, self.device = DTYPES[dtype], device
        if isinstance(subject, nn.Module) or _is_module_class(subject):
            self.is_module = True
        elif inspect.isclass(subject) or not callable(subject):
            raise ValueError(
                "`torch`: expected a function, a torch.nn.Module or its class, got "
                f"{subject!r:.80}."
            )
        else:
            self.is_module = False
        self._given: nn.Module | None = None
        # What each call of the function happens in.
        self._around: Callable[[], Any] = nullcontext

    def describe(self) -> dict[str, Any]:
        """Names and shapes of a module's weights, parameters and buffers apart."""
        if not self.is_module:
            return {"module": False, "parameters": {}, "buffers": {}}
        module = self._module(0)
        parameters = {n: list(p.shape) for n, p in module.named_parameters()}
        shapes = {n: list(a.shape) for n, a in arrays_of(module).items()}
        return {
            "module": True,
            "parameters": parameters,
            "buffers": {n: s for n, s in shapes.items() if n not in parameters},
            "held": [n for n, p in module.named_parameters() if not p.requires_grad],
        }

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """A module's own first weights; of a class those that it draws by `seed`."""
        return arrays_of(self._module(seed))

    def _module(self, seed: int) -> nn.Module:
        if isinstance(self.subject, nn.Module):
            made = self.subject
        else:
            torch.manual_seed(seed)
            made = user_code("torch", "making it without arguments", self.subject)
        return made

    def fresh(self, weights: Mapping[str, np.ndarray]) -> Subject:
        """The subject with these weights; a module in the mode that it was given in."""
        if not self.is_module:
            tensors = {name: self.tensor(a) for name, a in weights.items()}
            for tensor in tensors.values():
                tensor.requires_grad_(tensor.is_floating_point())
            return Subject(None, self.subject, tensors, self._around)
        if self._given is None:
            self._given = self._module(0)
        module = copy.deepcopy(self._given).to(dtype=self.dtype, device=self.device)
        # Gradients that it was given with are no part of a run.
        module.zero_grad(set_to_none=True)
        named = dict(module.named_parameters(remove_duplicate=False))
        named |= dict(module.named_buffers(remove_duplicate=False))
        with torch.no_grad():
            for name, array in weights.items():
                named[name].copy_(self.tensor(array))
        return Subject(module, module, {}, self._around)

    def tensor(self, array: np.ndarray) -> Tensor:
        """A NumPy array in the proof's dtype, on its device; a copy."""
        tensor = torch.from_numpy(np.array(array))
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        elif tensor.is_complex():
            double = self.dtype == torch.float64
            tensor = tensor.to(torch.complex128 if double else torch.complex64)
        return tensor.to(self.device)

    def example(self) -> Any:
        """The function, or a module."""
        return self._module(0) if self.is_module else self.subject

    def caller(self, inputs: tuple, weights: Mapping) -> Callable[[], Any]:
        """Runs the subject once."""
        return lambda: self.fresh(weights)(*(self.tensor(a) for a in inputs))

    def places(self, inputs: tuple, weights: Mapping) -> list[Fault]:
        """Faults that can be planted in the function."""
        given = tuple(self.tensor(a) for a in inputs)
        return torch_faults.places(self.fresh(weights), *given)

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """Within it the function has a fault."""
        self._around = lambda: torch_faults.planted(fault)
        try:
            yield
        finally:
            self._around = nullcontext

    def run(
        self,
        inputs: tuple[np.ndarray, ...],
        weights: Mapping[str, np.ndarray],
        steps: int,
        products: tuple[str, ...] = (),
        noise: tuple[int, float] | None = None,
        record: bool = True,
        modules: tuple[str, ...] = (),
    ) -> Results:
        """Everything that this side gives, see `results.Runs`."""
        results = Results()
        with nullcontext() if noise is None else rounding_noise(*noise):
            subject = self._forward(results, inputs, weights, record, modules)
            if self.loss is not None:
                self._loss(results, inputs, weights)
            if products:
                self._products(results, inputs, weights, products)
            if self.make_optimizer is not None and steps:
                subject = self._train(results, inputs, weights, steps)
            self._state(results, subject, weights, steps)
        return results

    def _forward(
        self,
        results: Results,
        inputs: tuple,
        weights: Mapping,
        record: bool,
        modules: tuple[str, ...],
    ) -> Subject:
        subject = self.fresh(weights)
        given = tuple(self.tensor(a) for a in inputs)

        def note(name: str, x: Any) -> None:
            if record:
                name = probes.numbered(name, results.probes)
                results.probes[name] = Leaves(x, name, to_numpy)

        def hook(path: str) -> Any:
            return lambda module, args, output: results.note_module(
                path, output, to_numpy
            )

        handles = []
        if subject.module is not None:
            named = dict(subject.module.named_modules())
            handles = [
                named[path].register_forward_hook(hook(path))
                for path in modules
                if path in named
            ]
        with probes.recording(note):
            output = user_code("torch", "the function", subject, *given)
        for handle in handles:
            handle.remove()
        results.output(Leaves(output, "outputs", to_numpy))
        for i, (tensor, array) in enumerate(zip(given, inputs, strict=True)):
            before = np.asarray(to_numpy(self.tensor(array)))
            if not np.array_equal(
                np.asarray(to_numpy(tensor)),
                before,
                equal_nan=before.dtype.kind in "fc",
            ):
                results.remarks.append(f"torch changes its argument {i} in place")
        return subject

    def _loss_of(self, subject: Subject, given: tuple[Tensor, ...]) -> Tensor:
        with probes.recording(lambda name, x: None):
            output = user_code("torch", "the function", subject, *given)
            loss = user_code("torch", "the loss", self.loss, output, *given)
        if not isinstance(loss, Tensor) or loss.shape != ():
            got = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                "`loss`: PyTorch's is to give a scalar tensor, shape [], it gave "
                f"{got}; take a mean or a sum."
            )
        if not loss.is_floating_point():
            raise ValueError(f"`loss`: expected a float, PyTorch's gave {loss.dtype}.")
        return loss

    def _loss(self, results: Results, inputs: tuple, weights: Mapping) -> None:
        subject = self.fresh(weights)
        given, of = self._differentiated(subject, inputs)
        loss = self._loss_of(subject, given)
        results.arrays["loss"] = np.asarray(to_numpy(loss))
        for name, gradient in self._gradients(loss, of).items():
            results.arrays[f"gradient/{name}"] = np.asarray(to_numpy(gradient))

    def _gradients(
        self, loss: Tensor, of: Mapping[str, Tensor], create_graph: bool = False
    ) -> dict[str, Tensor]:
        """Zero for what the loss doesn't depend on, as in JAX."""
        trained = {n: t for n, t in of.items() if t.requires_grad}
        found: list[Tensor | None] = [None] * len(trained)
        if loss.requires_grad and trained:
            found = list(
                user_code(
                    "torch", "its gradient", torch.autograd.grad, loss,
                    list(trained.values()), allow_unused=True,
                    create_graph=create_graph,
                )
            )  # fmt: skip
        by_name = dict(zip(trained, found, strict=True))
        return {
            name: g if (g := by_name.get(name)) is not None else torch.zeros_like(t)
            for name, t in of.items()
        }

    def _products(
        self, results: Results, inputs: tuple, weights: Mapping, products: tuple
    ) -> None:
        subject = self.fresh(weights)
        given, of = self._differentiated(subject, inputs)
        found = {}
        if "jacobian" in products:
            output = user_code("torch", "the function", subject, *given)
            tensors: list[Tensor] = []

            def note(item: Any) -> np.ndarray | None:
                if isinstance(item, Tensor) and item.is_floating_point():
                    tensors.append(item)
                return to_numpy(item)

            Leaves(output, "outputs", note)
            signs = [self.tensor(cotangent(i, t.shape)) for i, t in enumerate(tensors)]
            found["jacobian"] = _dot(tensors, signs)
        if "hessian" in products:
            loss = self._loss_of(subject, given)
            gradients = self._gradients(loss, of, create_graph=True)
            signs = [self.tensor(self.vector(n, g.shape)) for n, g in gradients.items()]
            found["hessian"] = _dot(list(gradients.values()), signs)
        for kind, total in found.items():
            for name, product in self._gradients(total, of).items():
                key = f"gradient/{kind} product/{name}"
                results.arrays[key] = np.asarray(to_numpy(product))

    def _differentiated(
        self, subject: Subject, inputs: tuple
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """The inputs, and what the gradient is by: without weights, the inputs."""
        given = tuple(self.tensor(a) for a in inputs)
        of = subject.parameters()
        if of:
            return given, of
        of = {
            f"input {i}": tensor.requires_grad_()
            for i, tensor in enumerate(given)
            if tensor.is_floating_point()
        }
        # Copies, which the function may change in place.
        return tuple(t.clone() if t.requires_grad else t for t in given), of

    # The Hessian's vector by a parameter's name: the proof carries it over by the map.
    vectors: Mapping[str, np.ndarray] = {}

    def vector(self, name: str, shape: Any) -> np.ndarray:
        """The Hessian's vector for a parameter."""
        given = self.vectors.get(name)
        return cotangent(name, tuple(shape)) if given is None else given

    def _train(
        self, results: Results, inputs: tuple, weights: Mapping, steps: int
    ) -> Subject:
        subject = self.fresh(weights)
        optimizer = self._optimizer(subject)
        for step in range(1, steps + 1):
            self._step(subject, optimizer, inputs)
            for name, tensor in subject.parameters().items():
                key = f"optimizer/{step}/{name}"
                results.arrays[key] = np.asarray(to_numpy(tensor))
        # The optimiser's own state is in what one more step makes of it.
        restored = self.fresh(weights)
        restored.load_state_dict(through_file(subject.state_dict()))
        other = self._optimizer(restored)
        other.load_state_dict(through_file(optimizer.state_dict()))
        self._step(restored, other, inputs)
        return restored

    def _optimizer(self, subject: Subject) -> torch.optim.Optimizer:
        parameters = list(subject.parameters().values())
        made = user_code("torch", "the optimizer", self.make_optimizer, parameters)
        if not hasattr(made, "step") or not hasattr(made, "zero_grad"):
            raise ValueError(
                "`optimizer`: PyTorch's is a function parameters -> optimiser, it gave "
                f"a {type(made).__qualname__}."
            )
        return made

    def _step(self, subject: Subject, optimizer: Any, inputs: tuple) -> None:
        given = tuple(self.tensor(a) for a in inputs)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._loss_of(subject, given)
            if loss.requires_grad:
                user_code("torch", "its gradient", loss.backward)
            return loss

        if _needs_closure(optimizer):
            user_code("torch", "the optimizer", optimizer.step, closure)
        else:
            closure()
            user_code("torch", "the optimizer", optimizer.step)

    def _state(
        self, results: Results, subject: Subject, weights: Mapping, steps: int
    ) -> None:
        if self.make_optimizer is None or not steps:
            restored = self.fresh(weights)
            restored.load_state_dict(through_file(subject.state_dict()))
            subject = restored
        for name, array in subject.arrays().items():
            results.arrays[f"state/{name}"] = array


def _needs_closure(optimizer: Any) -> bool:
    """Whether its step evaluates the loss itself, as L-BFGS does."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _dot(left: list[Tensor], right: list[Tensor]) -> Tensor:
    pairs = zip(left, right, strict=True)
    return sum(((a * b).sum() for a, b in pairs), start=torch.zeros(()))


def through_file(state: Any) -> Any:
    """A state as its checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _is_module_class(subject: Any) -> bool:
    return inspect.isclass(subject) and issubclass(subject, nn.Module)
