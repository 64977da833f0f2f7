"""A map of weights proposed from the names, order and shapes of both sides.

Layers are matched as wholes. A layer of JAX fits one of PyTorch if it has the same
arrays, in the shapes that its own kind of layer gives them (`kernel` is a transposed
`weight`). Of the layers that fit,

- the same name goes first, whatever one calls a linear layer, a norm or a query;
- numbered layers keep their order (`0, 2, 4` and `Dense_0, Dense_1, Dense_2`);
- layers of one parent stay together.

What two maps fit is refused with both. Recurrent layers go gate by gate in PyTorch's
order, which is flax's: input, forget, cell, output of an LSTM; reset, update, new of a
GRU. Where flax has one bias for PyTorch's two, the other one is zero.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from parity_kit.weights.transforms import (
    UNMAPPED,
    Map,
    Part,
    Shapes,
    as_source,
    parts_of,
)


Shape = tuple[int, ...]
# Words and numbers of a path.
Name = tuple[str | int, ...]
# PyTorch's array, which of its parts, of how many.
Source = tuple[str, int, int]


class Leaf(NamedTuple):
    """One array of a layer: where it comes from, and its shape."""

    source: Source
    shape: Shape


class Layer(NamedTuple):
    """Arrays that belong together: by role, as their framework calls them."""

    path: str
    leaves: dict[str, Leaf]

    def __str__(self) -> str:
        arrays = ", ".join(f"{r} {list(v.shape)}" for r, v in self.leaves.items())
        return f"{self.path or 'the top'} ({arrays})"


# One layer's own map: each part of PyTorch's arrays -> its place in JAX.
Fit = dict[Source, Part]

TORCH_ROLES = {"weight", "bias", "running_mean", "running_var"}
RECURRENT = re.compile(r"(weight|bias)_(ih|hh)(_l\d+(?:_reverse)?)?")
JAX_ROLES = {
    "kernel", "bias", "scale", "embedding", "mean", "var", "weight", "negative_slope",
    "weight_ih", "weight_hh", "bias_n",
}  # fmt: skip
COLLECTIONS = {"params", "batch_stats"}
CONTAINERS = COLLECTIONS | {
    "layer", "module", "model", "net", "network", "cell", "forward_rnn", "sequential",
}  # fmt: skip
ALIASES = {
    "linear": "fc dense lin linear",
    "norm": "ln layernorm layer_norm norm bn batchnorm batch_norm groupnorm rmsnorm",
    "embed": "embedding emb embed wte",
    "conv": "conv conv1d conv2d",
    "query": "q q_proj query query_proj wq to_q",
    "key": "k k_proj key key_proj wk to_k",
    "value": "v v_proj value value_proj wv to_v",
    "out": "o o_proj out_proj output_proj out wo to_out",
    "attention": "attn attention self_attn self_attention multiheadattention "
    "multiheaddotproductattention mha",
}
CANONICAL = {word: name for name, words in ALIASES.items() for word in words.split()}
NODES = 20_000
# What a map keeps at first, and what it gives up if there is none: parents of both
# sides, or of PyTorch's, and the order of numbers. linen numbers layers as they are
# made, which `Dense(3)(tanh(Dense(8)(x)))` does from the outside in.
KEEPS = (
    {"order", "their parents", "our parents"},
    {"order", "their parents"},
    {"order"},
    set(),
)
# flax's layers within a recurrent cell.
GATE_NAMES = {f"{side}{gate}" for side in "ih" for gate in "ifgorzn"} | {
    "dense_i",
    "dense_h",
}
GATES = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n")}


def infer(torch_shapes: Shapes, jax_shapes: Shapes) -> Map:
    """The only map that fits both sides' names and shapes; `as_source` prints it.

    Raises:
        ValueError: none fits, with what is left over; or two do, with both.
    """
    theirs, ours = _torch_layers(torch_shapes), _jax_layers(jax_shapes)
    options = _options(theirs, ours)
    if len(theirs) == len(ours) and all(options.values()):
        for keeps in KEEPS:
            search = _Search(theirs, ours, options, keeps)
            maps = _maps(theirs, options, search)
            if search.nodes > NODES:
                raise ValueError(
                    "weights: too many maps are possible; give the map yourself"
                )
            if len(maps) > 1:
                raise ValueError(_two_fit(*maps))
            if maps:
                _refuse_flattened(theirs, maps[0])
                return maps[0]
    raise ValueError(_none_fits(theirs, ours, options))


def _torch_layers(shapes: Shapes) -> list[Layer]:
    """PyTorch's arrays by layer; an attention's joint projection as three layers."""
    layers: dict[str, dict[str, Leaf]] = defaultdict(dict)
    for name, shape in shapes.items():
        path, _, role = name.rpartition(".")
        shape = tuple(shape)
        recurrent = RECURRENT.fullmatch(role)
        if role in UNMAPPED:
            continue
        if role.startswith("in_proj_"):
            for k, part in enumerate(("query", "key", "value")):
                leaf = Leaf((name, k, 3), (shape[0] // 3, *shape[1:]))
                layers[_join(path, part)][role.removeprefix("in_proj_")] = leaf
        elif recurrent:
            kind, side, suffix = recurrent.groups()
            layers[path + (suffix or "")][f"{kind}_{side}"] = Leaf((name, 0, 1), shape)
        elif role in TORCH_ROLES:
            layers[path][role] = Leaf((name, 0, 1), shape)
        else:
            layers[name][""] = Leaf((name, 0, 1), shape)
    return [Layer(path, leaves) for path, leaves in layers.items()]


def _jax_layers(shapes: Shapes) -> list[Layer]:
    """JAX's arrays by layer; the gates of a recurrent cell as one."""
    layers: dict[str, dict[str, Leaf]] = defaultdict(dict)
    tops = {name.removeprefix("params.") for name in shapes}
    for name, shape in shapes.items():
        path, _, role = name.rpartition(".")
        # linen keeps a layer's statistics in another collection.
        path = path.removeprefix("params.").removeprefix("batch_stats.")
        path = "" if path in COLLECTIONS else path
        leaf = Leaf((name, 0, 1), tuple(shape))
        parent, _, last = path.rpartition(".")
        both = {_join(parent, f"{side}.kernel") for side in "ih"}
        gate = last.rstrip("_")
        if gate in GATE_NAMES or (gate in ("i", "h") and both <= tops):
            layers[parent][f"{gate}.{role}"] = leaf
        elif role in JAX_ROLES:
            layers[path][role] = leaf
        else:
            layers[name][""] = leaf
    return [Layer(path, leaves) for path, leaves in layers.items()]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fits(torch_layer: Layer, jax_layer: Layer) -> list[Fit]:
    """The ways in which one layer's arrays can be the other's."""
    if "weight_ih" in torch_layer.leaves:
        return _recurrent_fits(torch_layer.leaves, jax_layer.leaves)
    left = dict(jax_layer.leaves)
    fits: list[Fit] = [{}]
    for role, leaf in torch_layer.leaves.items():
        partners = {
            "weight": ("kernel", "scale", "embedding", "weight", "negative_slope", ""),
            "bias": ("bias",),
            "running_mean": ("mean",),
            "running_var": ("var",),
            "": tuple(left),
        }[role]
        name = next((p for p in partners if p in left), None)
        if name is None:
            return []
        target = left.pop(name)
        ways = _transforms(name, leaf.shape, target.shape)
        if name == "kernel" and len(ways) > 1:
            ways = [_by_name(ways, torch_layer.path + jax_layer.path)]
        fits = [
            {**fit, leaf.source: (target.source[0], way)}
            for fit in fits
            for way in ways
        ]
    return [] if left else fits


def _transforms(role: str, theirs: Shape, ours: Shape) -> list[str]:
    """Names of the layouts that take shape `theirs` to `ours`."""
    if role == "kernel" and len(theirs) == 2:
        return [
            *_if("transposed", ours == theirs[::-1]),
            *_if(f"heads:{ours[1:2] and ours[1]}", _is_heads(ours, theirs)),
            *_if(f"out heads:{ours and ours[0]}", _is_heads(ours[::-1], theirs[::-1])),
        ]
    if role == "kernel":
        window, pair = theirs[2:], theirs[:2]
        return [
            *_if("convolution", bool(window) and ours == (*window, *pair[::-1])),
            *_if("transposed convolution", bool(window) and ours == (*window, *pair)),
        ]
    rows = theirs[0] if len(theirs) == 1 and role == "bias" else None
    return [
        *_if("same", ours == theirs),
        *_if(
            "transposed",
            role in ("weight", "") and len(theirs) == 2 and ours == theirs[::-1],
        ),
        *_if(
            f"heads:{ours[:1] and ours[0]}",
            len(ours) == 2 and _ones(ours) == 0 and ours[0] * ours[1] == rows,
        ),
        *_if(
            f"channels:{len(ours) - 1}",
            len(ours) > 1 and ours[0] == rows and _ones(ours) == len(ours) - 1,
        ),
        *_if("squeezed", theirs == (1, *ours)),
        *_if("unsqueezed", ours == (1, *theirs)),
    ]


def _if(way: str, fits: bool) -> list[str]:
    return [way] if fits else []


def _ones(shape: Shape) -> int:
    return sum(n == 1 for n in shape[1:])


def _is_heads(ours: Shape, theirs: Shape) -> bool:
    """Whether ours is [in, N, d] of theirs, [N d, in]."""
    return len(ours) == 3 and ours[0] == theirs[1] and ours[1] * ours[2] == theirs[0]


def _by_name(ways: list[str], names: str) -> str:
    """A square kernel of a convolution is a transposed one's if its name says so."""
    words = names.lower()
    if "transpose" in words or "deconv" in words:
        return ways[-1]
    if words.rstrip("0123456789").endswith("out") and ways[-1].startswith("out"):
        return ways[-1]
    return ways[0]


def _recurrent_fits(theirs: dict[str, Leaf], ours: dict[str, Leaf]) -> list[Fit]:
    """Gates in PyTorch's order; a bias that only PyTorch has is zero."""
    rows, into = theirs["weight_ih"].shape
    hidden = theirs["weight_hh"].shape[1]
    gates = GATES.get(rows // hidden, ())
    want = {"weight_ih": ("i", into), "weight_hh": ("h", hidden)}
    left, fit = dict(ours), {}
    for role, (side, columns) in want.items():
        kernels = _gate_arrays(left, side, "kernel", gates)
        if role in left:  # equinox: PyTorch's own layout
            kernels = [left.pop(role)]
            shapes, transform = [(rows, columns)], "same"
        else:
            shapes = [(columns, rows // max(len(kernels), 1))] * len(kernels)
            transform = "transposed"
        if not kernels or [k.shape for k in kernels] != shapes:
            return []
        name = theirs[role].source[0]
        for k, kernel in enumerate(kernels):
            fit[(name, k, len(kernels))] = (kernel.source[0], transform)
    for side in "hi":
        leaf = theirs.get(f"bias_{side}h")
        if leaf is not None:
            fit.update(_bias_fit(leaf, left, side, gates, hidden))
    return [] if left else [fit]


def _bias_fit(
    leaf: Leaf, left: dict[str, Leaf], side: str, gates: tuple[str, ...], hidden: int
) -> Fit:
    name, rows = leaf.source[0], leaf.shape[0]
    if "bias_n" in left and side == "h":  # equinox's GRU: the new gate's own
        target = left.pop("bias_n").source[0]
        zero: Part = (None, f"zero:{hidden}")
        return {(name, 0, 3): zero, (name, 1, 3): zero, (name, 2, 3): (target, "same")}
    if "bias" in left and (side == "i" or len(gates) == 4):
        return {(name, 0, 1): (left.pop("bias").source[0], "same")}
    # linen's GRU has the new gate's recurrent bias, and no other.
    if side == "h" and "hn.bias" in left and "hr.bias" not in left:
        target = left.pop("hn.bias").source[0]
        zero = (None, f"zero:{hidden}")
        return {(name, 0, 3): zero, (name, 1, 3): zero, (name, 2, 3): (target, "same")}
    biases = _gate_arrays(left, side, "bias", gates)
    if not biases:
        return {(name, 0, 1): (None, f"zero:{rows}")}
    return {
        (name, k, len(biases)): (bias.source[0], "same")
        for k, bias in enumerate(biases)
    }


def _gate_arrays(
    left: dict[str, Leaf], side: str, role: str, gates: tuple[str, ...]
) -> list[Leaf]:
    """One side's arrays taken from `left`: all gates in one, or each its own."""
    whole = [f"dense_{side}.{role}", f"{side}.{role}"]
    for name in whole:
        if name in left:
            return [left.pop(name)]
    names = [f"{side}{gate}.{role}" for gate in gates]
    return [left.pop(n) for n in names] if all(n in left for n in names) else []


def _options(theirs: list[Layer], ours: list[Layer]) -> dict[int, dict[int, list[Fit]]]:
    """For each layer of PyTorch those of JAX that fit and are called alike."""
    options = {}
    our_names = _ranked([_canonical(layer.path) for layer in ours])
    their_names = _ranked([_canonical(layer.path) for layer in theirs])
    for i, layer in enumerate(theirs):
        fits = {
            j: found for j, other in enumerate(ours) if (found := _fits(layer, other))
        }
        same = [j for j in fits if our_names[j] == their_names[i]]
        last = their_names[i][-1:]
        alike = [j for j in fits if our_names[j][-1:] == last]
        if len(same) == 1 and their_names.count(their_names[i]) == 1:
            fits = {same[0]: fits[same[0]]}
        elif alike and last and isinstance(last[0], str):
            fits = {j: fits[j] for j in alike}
        options[i] = fits
    return _in_one_layout(options)


def _in_one_layout(
    options: dict[int, dict[int, list[Fit]]],
) -> dict[int, dict[int, list[Fit]]]:
    """A square `weight` has the layout of those that aren't square, if that is one."""
    every = [fits for found in options.values() for fits in found.values()]
    sure = {
        way
        for fits in every
        if len(fits) == 1
        for (name, *_), (_, way) in fits[0].items()
        if name.endswith("weight") and way in ("same", "transposed")
    }
    if len(sure) != 1:
        return options
    return {
        i: {j: _of_layout(fits, *sure) for j, fits in found.items()}
        for i, found in options.items()
    }


def _of_layout(fits: list[Fit], layout: str) -> list[Fit]:
    chosen = [
        fit
        for fit in fits
        if all(w == layout for (n, *_), (_, w) in fit.items() if n.endswith("weight"))
    ]
    return chosen if len(fits) > 1 and chosen else fits


def _canonical(path: str) -> Name:
    """A path's words and numbers, the same for what is called differently."""
    words: list[str | int] = []
    for token in path.split("."):
        whole = CANONICAL.get(token.lower())
        parts = [whole] if whole else re.findall(r"\d+|[^\d]+", token.lower())
        for part in parts:
            word = part.strip("_")
            if word.isdigit():
                words.append(int(word))
                continue
            word = CANONICAL.get(word, word.removesuffix("s") or word)
            if word and word not in CONTAINERS:
                words.append(CANONICAL.get(word, word))
    return tuple(words)


def _ranked(names: list[Name]) -> list[Name]:
    """Numbers by their rank: some count layers from 1, or count activations too."""
    for end in range(max(map(len, names), default=0)):
        numbers: dict[Name, set] = defaultdict(set)
        for name in names:
            if end < len(name) and isinstance(name[end], int):
                numbers[name[:end]].add(name[end])
        ranks: dict[Name, Name] = {
            (*before, number): (*before, rank)
            for before, found in numbers.items()
            for rank, number in enumerate(sorted(found))
        }
        names = [ranks.get(n[: end + 1], n[: end + 1]) + n[end + 1 :] for n in names]
    return names


class _Search:
    """Layers of PyTorch given layers of JAX, one by one, order and parents kept."""

    def __init__(
        self,
        theirs: list[Layer],
        ours: list[Layer],
        options: dict[int, dict[int, list[Fit]]],
        keeps: set[str],
    ) -> None:
        self.options = options
        self.keeps = keeps
        self.their_places = [_place(layer.path) for layer in theirs]
        self.our_places = [_place(layer.path) for layer in ours]
        self.chosen: dict[int, int] = {}
        self.nodes = 0

    def solutions(self) -> Iterator[dict[int, int]]:
        """All assignments, the first ones first."""
        if len(self.chosen) == len(self.options):
            yield dict(self.chosen)
            return
        open_ = {
            i: [j for j in fits if self._allowed(i, j)]
            for i, fits in self.options.items()
            if i not in self.chosen
        }
        i = min(open_, key=lambda k: len(open_[k]))
        for j in open_[i]:
            self.nodes += 1
            if self.nodes > NODES:
                return
            self.chosen[i] = j
            yield from self.solutions()
            del self.chosen[i]

    def _allowed(self, i: int, j: int) -> bool:
        theirs, ours = self.their_places[i], self.our_places[j]
        for k, m in self.chosen.items():
            other, our_other = self.their_places[k], self.our_places[m]
            if m == j:
                return False
            rows = theirs.group == other.group and ours.group == our_other.group
            turned = (theirs.order < other.order) != (ours.order < our_other.order)
            if "order" in self.keeps and rows and turned:
                return False
            alike = theirs.parent == other.parent, ours.parent == our_other.parent
            if "their parents" in self.keeps and alike == (True, False):
                return False
            if "our parents" in self.keeps and alike == (False, True):
                return False
        return True


class _Place(NamedTuple):
    group: tuple[str, ...]
    order: tuple[int, ...]
    parent: Name


def _place(path: str) -> _Place:
    name = _canonical(path)
    return _Place(
        tuple("#" if isinstance(n, int) else n for n in name),
        tuple(n for n in name if isinstance(n, int)),
        _canonical(path.rpartition(".")[0]),
    )


def _maps(
    theirs: list[Layer], options: dict[int, dict[int, list[Fit]]], search: _Search
) -> list[Map]:
    """Up to two maps that differ."""
    found: list[Map] = []
    for chosen in search.solutions():
        fits = [options[i][chosen[i]] for i in range(len(theirs))]
        variants = [[fit[0] for fit in fits]]
        unsure = next((i for i, fit in enumerate(fits) if len(fit) > 1), None)
        if unsure is not None:
            other = list(variants[0])
            other[unsure] = fits[unsure][1]
            variants.append(other)
        found += [_assembled(variant) for variant in variants]
        if len(found) > 1:
            break
    return found[:2]


def _assembled(fits: list[Fit]) -> Map:
    """One map of all layers' fits."""
    parts: dict[str, dict[int, Part]] = defaultdict(dict)
    for fit in fits:
        for (name, k, _), part in fit.items():
            parts[name][k] = part
    short = lambda p: p[0] if p[1] == "same" and p[0] else p
    return {
        name: short(found[0])
        if len(found) == 1
        else [short(found[k]) for k in sorted(found)]
        for name, found in parts.items()
    }


def _two_fit(first: Map, second: Map) -> str:
    name = next(n for n in first if first[n] != second[n])
    return (
        f"weights: two maps fit: {name!r} can be {first[name]!r} or {second[name]!r}; "
        f"names and shapes don't say which. Give the map yourself; the first one is\n"
        f"{as_source(first)}"
    )


def _none_fits(
    theirs: list[Layer], ours: list[Layer], options: dict[int, dict[int, list[Fit]]]
) -> str:
    reached = {j for fits in options.values() for j in fits}
    lost = [str(layer) for i, layer in enumerate(theirs) if not options[i]]
    over = [str(layer) for j, layer in enumerate(ours) if j not in reached]
    reasons = [f"no layer of JAX fits PyTorch's {name}" for name in lost]
    reasons += [f"no layer of PyTorch fits JAX's {name}" for name in over]
    if not reasons:
        wanted = {
            str(layer): [str(ours[j]) for j in options[i]]
            for i, layer in enumerate(theirs)
        }
        scarce = min(wanted, key=lambda name: len(wanted[name]))
        reasons = [f"{scarce} fits only {', '.join(wanted[scarce])}, as others do"]
    return (
        f"weights: no map fits {len(theirs)} layers of PyTorch and {len(ours)} of JAX: "
        f"{'; '.join(reasons)}. Give the map yourself, as "
        '{"linear.weight": ("linear.kernel", "transposed")}'
    )


def _refuse_flattened(theirs: list[Layer], mapping: Map) -> None:
    """A linear layer behind an image has two layouts that fit.

    Raises:
        ValueError: naming both.
    """
    channels = 0
    for layer in theirs:
        weight = layer.leaves.get("weight")
        if weight is None or len(weight.shape) < 2:
            continue
        name, entry = weight.source[0], mapping[weight.source[0]]
        if len(weight.shape) > 2:
            is_flax = isinstance(entry, tuple) and entry[1] == "convolution"
            channels = weight.shape[0] if is_flax else 0
            continue
        into = weight.shape[1]
        if channels and into > channels and into % channels == 0:
            side = round((into / channels) ** 0.5)
            image = f"{side}x{side}" if side**2 * channels == into else "HxW"
            raise ValueError(
                f"weights: two layouts fit: {name!r} can be {entry!r} or "
                f"{(parts_of(entry)[0][0], f'flattened:{channels}x{image}')!r} if it "
                "follows a flattened image, channels first in PyTorch and last in JAX. "
                f"Give the map yourself; the first one is\n{as_source(mapping)}"
            )
        channels = 0
