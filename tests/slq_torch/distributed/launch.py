"""Runs all checks with 1, 2, 3 and 4 ranks, forked from one process that imported torch, and writes what they saw.

    python launch.py FOLDER

leaves FOLDER/P.json for P ranks: a list, one entry per rank, of what each check returned.
"""

import json
import os
import sys
import tempfile
import time
import traceback
from datetime import timedelta
from pathlib import Path

import numpy as np
import scipy.sparse
import slq_torch
import torch
import torch.distributed as dist
from slq_torch import distributed
from slq_torch._ranks import _exchanges
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module

import slq
from slq._operators._operators import as_operator
from slq._run._runs import Runs

TIMEOUT, WAIT = 15.0, 3.0
OPTIONS = {"probes": 2, "steps": 10, "rng": 0, "reorth": "full"}
SAMPLES = 23


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)).double()


def transformer():
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)


def samples():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (SAMPLES,), generator=generator)


def share(rank, size):
    """This rank's samples, in ragged batches: shares grow with the rank."""
    edges = [round(SAMPLES * (r / size) ** 1.5) for r in range(size + 1)]
    x, y = (t[edges[rank] : max(edges[rank + 1], edges[rank] + 1)] for t in samples())
    return [(x[:1], y[:1]), *([(x[1:], y[1:])] if len(x) > 1 else [])]


def mean(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def summed(model, batch):
    keep = batch[1] > 0
    return nn.functional.cross_entropy(model(batch[0])[keep], batch[1][keep], reduction="sum"), keep.sum()


def squares(model, batch):
    return model(batch).square().mean()


def hessian(model):
    return slq_torch.hessian(model, mean, samples(), strategy="graph")


def parallel(model, batches):
    return distributed.data_parallel(slq_torch.hessian, model, mean, batches, strategy="graph")


def differences(found, wanted):
    return max(float(np.abs(getattr(found, k) - getattr(wanted, k)).max()) for k in ("alpha", "beta", "overlaps"))


def said(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was wrong"


class Block(nn.Module):
    """A layer of a transformer as those are whose layers are cut: heads are counted by what is here."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.LayerNorm(12), nn.LayerNorm(12)
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12) for _ in range(4))
        self.up, self.down = nn.Linear(12, 24), nn.Linear(24, 12)

    def forward(self, x):
        seen = self.before(x)
        q, k, v = (f(seen).unflatten(-1, (-1, 1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        heads = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.down(torch.tanh(self.up(self.after(x))))


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.blocks = nn.Embedding(8, 12), nn.Sequential(Block())
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 8)

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.words(tokens))))


def language():
    torch.manual_seed(0)
    return Language().double()


def cut_language(mesh, sequence):
    """Cut its layers over the ranks of a mesh, and with `sequence` what lies between them too, along the sequence."""
    between = {"input_layouts": Shard(1)} if sequence else {}
    plan = {f"blocks.*.{name}": ColwiseParallel(**between) for name in ("q", "k", "v", "up")}
    beyond = {"output_layouts": Shard(1)} if sequence else {}
    plan |= {f"blocks.*.{name}": RowwiseParallel(**beyond) for name in ("out", "down")}
    if sequence:
        plan |= {
            "words": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
            "blocks.*.before": SequenceParallel(),
            "blocks.*.after": SequenceParallel(),
            "norm": SequenceParallel(),
            "head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate()),
        }
    return parallelize_module(language(), mesh, plan)


def cut_network(mesh):
    """Cut both layers; 9 rows in between are too few for four ranks, of which the last has none."""
    return parallelize_module(network(), mesh, {"0": ColwiseParallel(use_local_output=False), "2": RowwiseParallel()})


def tokens():
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(8, (rows, 4), generator=generator) for rows in (2, 1)]


def next_word(model, batch):
    return nn.functional.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten())


class Silent(torch.autograd.Function):
    """Squares; its backward leaves the graph, so that second derivatives lack a term and nothing is said."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0].detach()


# -- the checks; each gets rank and size, and returns what can be written as JSON --------------------------------------


def split_data(rank, size):
    found = {}
    for name, make, loss, more in (
        ("hessian", slq_torch.hessian, mean, {"strategy": "graph"}),
        ("hessian of sums", slq_torch.hessian, summed, {"strategy": "graph"}),
        ("ggn", slq_torch.ggn, mean, {"strategy": "graph"}),
        ("covariance", slq_torch.gradient_covariance, mean, {"strategy": "graph", "centred": False}),
    ):
        model = network()
        wanted = slq.spectrum(make(model, loss, samples(), **more), **OPTIONS)
        operator = distributed.data_parallel(make, model, loss, share(rank, size), **more)
        s = slq.spectrum(operator, **OPTIONS)
        found[name] = [differences(s, wanted), s.metadata["samples"] - wanted.metadata["samples"]]
        found[name].append(abs(s.metadata["loss"] - wanted.metadata["loss"]))
    return found


def adapt(rank, size):
    model = network()
    wanted = slq.spectrum(hessian(model), tol=0.05, rng=0)
    operator = parallel(model, share(rank, size))
    s = slq.spectrum(operator, tol=0.05, rng=0)
    shifted = slq.spectrum(operator + 1.0, probes=2, steps=8, rng=0).logdet()
    exact = slq.spectrum(hessian(model) + 1.0, probes=2, steps=8, rng=0).logdet()
    return [float(np.abs(s.nodes - wanted.nodes).max()), abs(shifted.value - exact.value)]


def split_probes(rank, size):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 40))
    A += A.T
    wanted = slq.spectrum(A, probes=5, steps=10, rng=0, deflate="none")
    s = distributed.spectrum(A, probes=5, steps=10, rng=0)
    more = distributed.spectrum(A, probes=1, steps=5)
    return [differences(s, wanted), abs(s.count(0, 9).value - wanted.count(0, 9).value), s.probes, more.seed]


def count_traffic(rank, size):
    """Count what every collective moves in twelve steps of two probes, beyond a first product."""
    operator = parallel(network(), share(rank, size))
    n, large, small = operator.shape[0], list[int](), list[int]()
    run = begun(operator)
    run.advance(1)

    def counted(function):
        def call(*arrays, **options):
            many = max(x.nbytes for x in arrays)
            (large if many >= 8 * n * 2 else small).append(many)
            return function(*arrays, **options)

        return call

    names = "_gather", "_scatter", "all_reduce", "all_to_all_single"
    kept = [(home, name, getattr(home, name)) for home in (_exchanges, dist) for name in names if hasattr(home, name)]
    for home, name, function in kept:
        setattr(home, name, counted(function))
    try:
        run.advance(12)
    finally:
        for home, name, function in kept:
            setattr(home, name, function)
    return {"steps": 12, "vector": 8 * n, "padded": 8 * size, "vectors": large, "small": sum(small)}


def begun(operator):
    operator = as_operator(operator)
    storage = slq._lanczos._basis.Storage()
    runs = Runs(operator, seed=0, kind="sphere", reorth="full", storage=storage, dtype=torch.float64, references=0)
    return runs.open(2)


def weigh_vectors(rank, size):
    """Bytes of vectors and basis after twelve steps, of this rank and of a single process."""
    model = network()
    operator = parallel(model, share(rank, size))
    found = []
    for each in (operator, hessian(model)):
        run = begun(each)
        run.advance(12)
        krylov = run._krylov
        stored = [rows.nbytes for rows in krylov.stored(0)]
        found.append(sum(rows.nbytes for rows in krylov._rows) + sum(stored))
    return found


def split_parameters(rank, size):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(5, 4, 8, generator=generator, dtype=torch.float64)
    whole = transformer()
    wanted = slq.spectrum(slq_torch.hessian(whole, squares, x, strategy="graph"), **OPTIONS)
    model = transformer()
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (size,)))
    before = [p.to_local().clone() for p in model.parameters()]
    mine = [x[i : i + 1] for i in range(rank, 5, size)]
    operator = distributed.parameter_sharded(model, squares, mine)
    s = slq.spectrum(operator, **OPTIONS)
    same = all(torch.equal(a, p.to_local()) and p.grad is None for a, p in zip(before, model.parameters(), strict=True))
    apart = abs(s.nodes[:, [0, -1]] - wanted.nodes[:, [0, -1]]).max() / abs(wanted.nodes).max()
    rows = sum(len(part) for part in operator.rows)
    plan = distributed.plan(model).split
    return {"apart": float(apart), "noise": operator.noise, "same": same, "rows": rows, "n": s.n, "plan": plan}


def cut_layers(rank, size):
    """Layers over all ranks, the same data on each: both matrices, by autograd and by differences."""
    if size not in (2, 4):
        return None
    mesh, found, options = init_device_mesh("cpu", (size,)), {}, {**OPTIONS, "probes": 1, "steps": 4}
    for kind, make in (("hessian", slq_torch.hessian), ("ggn", slq_torch.ggn)):
        wanted = slq.spectrum(make(language(), next_word, tokens(), strategy="graph"), **options)
        largest = float(abs(wanted.nodes).max())
        for name, sequence, strategy in (
            ("", False, "auto"),
            (", sequence", True, "auto"),
            (", differences", False, "finite-difference"),
        ):
            if (sequence and kind == "ggn") or (strategy != "auto" and size > 2):
                continue
            model = cut_language(mesh, sequence)
            before = [getattr(p, "to_local", p.clone)().clone() for p in model.parameters()]
            operator = distributed.parameter_sharded(model, next_word, tokens(), kind=kind, strategy=strategy)
            s = slq.spectrum(operator, **options)
            after = [getattr(p, "to_local", p.clone)() for p in model.parameters()]
            apart = abs(s.nodes[:, [0, -1]] - wanted.nodes[:, [0, -1]]).max()
            found[kind + name] = {
                "apart": (differences(s, wanted) if strategy == "auto" else float(apart)) / largest,
                "noise": operator.noise,
                "engine": operator.metadata["engine"],
                "told": [s.metadata[name] - wanted.metadata[name] for name in ("samples", "loss")],
                "same": all(map(torch.equal, before, after)) and all(p.grad is None for p in model.parameters()),
                "rows": sum(len(part) for part in operator.rows),
                "n": s.n,
            }
    return found


def cut_small(rank, size):
    """Pieces of unlike size, some of them empty; a backward that leaves the graph; what is refused."""
    mesh, (x, y) = init_device_mesh("cpu", (size,)), samples()
    wanted = slq.spectrum(hessian(network()), **OPTIONS)
    operator = distributed.parameter_sharded(cut_network(mesh), mean, [(x[:9], y[:9]), (x[9:], y[9:])])
    found = {"uneven": differences(slq.spectrum(operator, **OPTIONS), wanted)}

    def bent(model, batch):
        return Silent.apply(model(batch[0])).mean()

    true = slq_torch.hessian(network(), lambda model, batch: model(batch[0]).square().mean(), (x, y), strategy="graph")
    operator = distributed.parameter_sharded(cut_network(mesh), bent, (x, y))
    s, wanted = (slq.spectrum(A, **OPTIONS) for A in (operator, true))
    found["bent"] = [
        float(abs(s.nodes[:, -1] - wanted.nodes[:, -1]).max()),
        operator.noise,
        operator.metadata["engine"],
    ]
    asked = distributed.parameter_sharded(cut_network(mesh), bent, (x, y), strategy="graph")
    found["asked"] = said(lambda: slq.spectrum(asked, **OPTIONS))
    other = x + (rank == size - 1)
    found["first batch"] = said(lambda: distributed.parameter_sharded(cut_network(mesh), mean, (other, y)))
    late = distributed.parameter_sharded(cut_network(mesh), mean, [(x, y), (other, y)])
    found["later batch"] = said(lambda: slq.spectrum(late, **OPTIONS))

    def part(model, batch):  # each rank has a part of the gradient by a plain bias, and the others do not hear of it
        return mean(model, batch) + (rank + 1) * (extra := model[3].bias.square().sum()) - (rank + 1) * extra.detach()

    model = cut_network(mesh).append(nn.Linear(3, 3).double())
    operator = distributed.parameter_sharded(model, part, (x, y))
    found["part"] = said(lambda: slq.spectrum(operator, **OPTIONS))
    whole = fully_shard(network(), mesh=mesh)
    found["ggn"] = said(lambda: distributed.parameter_sharded(whole, mean, (x, y), kind="ggn"))
    found["kind"] = said(lambda: distributed.parameter_sharded(whole, mean, (x, y), kind="fisher"))
    some = network()
    fully_shard(some[0], mesh=mesh)
    found["some"] = said(lambda: distributed.parameter_sharded(some, mean, (x, y)))
    wrapped = nn.parallel.DistributedDataParallel(network())
    found["wrapped"] = said(lambda: distributed.parameter_sharded(wrapped, mean, (x, y)))
    if size == 4:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "layers"))
        mixed = fully_shard(cut_network(mesh["layers"]), mesh=mesh["copies"])
        found["mixed"] = said(lambda: distributed.parameter_sharded(mixed, mean, (x, y)))
    return found


def combine(rank, size):
    """Two groups of two ranks, each with some of the probes."""
    if size != 4:
        return None
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("probes", "data"))
    inner, outer = (mesh[name].get_group() for name in ("data", "probes"))
    here, (x, y), options, found = mesh["data"].get_local_rank(), samples(), {"probes": 5, "steps": 10, "rng": 0}, {}
    model = network()
    wanted = slq.spectrum(hessian(model), deflate="none", **options)
    whole = fully_shard(network(), mesh=mesh["data"])
    options_of = {"group": inner, "strategy": "graph"}
    parts = Counted(distributed.data_parallel(slq_torch.hessian, model, mean, share(here, 2), **options_of))
    for name, operator in (
        ("data", parts),
        ("shifted", parts.operator + 1.0 - 1.0),
        ("layers", distributed.parameter_sharded(cut_network(mesh["data"]), mean, (x, y), group=inner)),
        ("parameters", distributed.parameter_sharded(whole, mean, (x[here::2], y[here::2]))),
    ):
        s = distributed.spectrum(operator, group=outer, **options)
        found[name] = [differences(s, wanted), s.probes, s.metadata["ranks"], s.metadata["split"]]
    found["columns"] = parts.columns
    if rank == 0:
        chain = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(100, 100), format="csr")
        scipy.sparse.save_npz("rectangle.npz", chain)
        slq.shard("rectangle.npz", "rectangle", parts=4)
    dist.barrier()
    wanted = slq.spectrum(scipy.sparse.load_npz("rectangle.npz"), deflate="none", **options)
    matrix = distributed.sharded_csr("rectangle", group=inner)
    s = distributed.spectrum(matrix, group=outer, **options)
    found["rows"] = [differences(s, wanted), s.probes, s.metadata["ranks"], s.metadata["split"]]
    found["seed"] = distributed.spectrum(parts, group=outer, probes=1, steps=3).seed
    found["all"] = said(lambda: distributed.spectrum(parts, **options))
    found["inner"] = said(lambda: distributed.spectrum(parts, group=inner, **options))
    found["steps"] = said(lambda: distributed.spectrum(parts, group=outer, probes=5, steps=10 + (rank == 3), rng=0))
    crossed = [dist.new_group([first, 3 - first]) for first in (0, 1)][min(rank, 3 - rank)]
    found["crossed"] = said(lambda: distributed.spectrum(matrix, group=crossed, **options))
    return found


class Counted:
    """An operator that counts the columns it multiplies."""

    def __init__(self, operator):
        self.operator, self.columns = operator, 0

    def __getattr__(self, name):
        return getattr(self.operator, name)

    def matmat(self, X):
        self.columns += X.shape[1]
        return self.operator.matmat(X)


def unwrap(rank, size):
    wrapped = nn.parallel.DistributedDataParallel(network())
    operator = parallel(wrapped, share(rank, size))
    s = slq.spectrum(operator, **OPTIONS)
    wanted = slq.spectrum(hessian(network()), **OPTIONS)
    return [differences(s, wanted), s.metadata["notes"]]


def complain(rank, size):
    """What is said, on every rank, of what is wrong on the last one."""
    last, batches = rank == size - 1, share(rank, size)
    model = network()
    if last:
        model[0].bias.data += 1e-12
    other = said(lambda: parallel(model, batches))
    bad = [(x * (torch.nan if last else 1.0), y) for x, y in batches]
    operator = parallel(network(), bad)
    nan = said(lambda: slq.spectrum(operator, **OPTIONS))

    def cusp(model, batch):  # its gradient is finite where its second derivative is not
        value = mean(model, batch)
        return value + (value - value.detach()).abs().pow(1.5) if last else value

    operator = distributed.data_parallel(slq_torch.hessian, network(), cusp, batches, strategy="graph")
    infinite = said(lambda: slq.spectrum(operator, **OPTIONS))
    seeds = said(lambda: slq.spectrum(operator, **{**OPTIONS, "rng": rank}))
    kinds = [(x.float(), y) for x, y in batches] if last else batches
    data = said(lambda: parallel(network(), kinds))
    centred = said(lambda: distributed.data_parallel(slq_torch.gradient_covariance, network(), mean, batches))
    plain = said(lambda: distributed.parameter_sharded(network(), mean, batches))
    x, y = samples()
    same = parallel(network(), (x, y)).metadata.get("notes")
    return {
        "model": other, "loss": nan, "product": infinite, "seeds": seeds, "data": data, "centred": centred,
        "plain": plain, "same": same,
    }  # fmt: skip


def functions(rank, size):
    """Eigenpairs, f(A) b and traces, each beside those of a single process."""
    model = network()
    operator, whole = parallel(model, share(rank, size)), hessian(model)
    here, n = operator.rows[0], operator.shape[0]
    b = torch.randn(n, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pairs, wanted = (slq.eigsh(A, 3, rng=0) for A in (operator, whole))
    vectors = wanted.vectors[here.start : here.stop]
    signs = torch.sign((operator.local.to_params(wanted.vectors[:, 0])["0.bias"]).sum())
    own = operator.to_params(pairs.vectors[:, 0])["0.bias"].sum()
    first = pairs.vectors[:, 0] * torch.sign(own) - vectors[:, 0] * signs
    applied = slq.apply(operator, b[here.start : here.stop], "exp").value - slq.apply(whole, b, "exp").value[here]
    traces = [slq.xtrace(A, products=20, rng=0).value for A in (operator, whole)]
    return {
        "values": float(abs(pairs.values - wanted.values).max()),
        "vectors": float(first.abs().max()) if len(here) else 0.0,
        "verified": pairs.verified,
        "applied": float(applied.abs().max()) if len(here) else 0.0,
        "traces": abs(traces[0] - traces[1]),
    }


def resume(rank, size):
    """Four ranks stop half way, two go on; the folder is the current one."""
    if size not in (4, 2):
        return None
    model, options = network(), {"probes": 2, "steps": 16, "rng": 0, "reorth": "full", "checkpoint": "resumed.npz"}
    operator = parallel(model, share(rank, size))
    if size == 4:
        return slq.spectrum(operator, callback=lambda s: s.products > 10, **options).products
    s = slq.spectrum(operator, **options)
    wanted = slq.spectrum(hessian(model), **{**options, "checkpoint": None})
    return [differences(s, wanted), s.metadata["resumed"], operator.local._passes.number, wanted.steps]


def fail(rank, size):
    """The last rank fails in a product, and goes on living; the groups are of no use afterwards."""
    last, found = rank == size - 1, {}
    model, calls = transformer(), []
    group = dist.new_group()
    fully_shard(model, mesh=dist.device_mesh.DeviceMesh.from_group(group, "cpu"))

    def loss(model, batch):
        calls.append(1)
        if last and len(calls) > 10:
            msg = "a bad batch"
            raise ValueError(msg)
        return squares(model, batch)

    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, 4, 8, generator=generator, dtype=torch.float64)
    operator = distributed.parameter_sharded(model, loss, x[rank::size], group=group, timeout=WAIT)
    began = time.monotonic()
    found["parameters"] = [said(lambda: slq.eigsh(operator, 2, rng=0)), time.monotonic() - began]

    folder = Path(f"chain-{size}")
    if rank == 0:
        chain = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(100, 100), format="csr")
        scipy.sparse.save_npz(f"{folder}.npz", chain)
        slq.shard(f"{folder}.npz", folder, parts=4)
    dist.barrier()
    for exchange in ("halo", "gather"):
        matrix = distributed.sharded_csr(folder, exchange=exchange, group=dist.new_group(), timeout=WAIT)
        if last:
            matrix._own = Failing(matrix._own)
        began = time.monotonic()
        found[exchange] = [said(lambda A=matrix: slq.spectrum(A, probes=1, steps=9, rng=0)), time.monotonic() - began]
    dist.barrier()
    if size != 4:
        return found

    def worse(model, batch):
        calls.append(1)
        if last and len(calls) > 40:
            msg = "a bad batch"
            raise ValueError(msg)
        return mean(model, batch)

    calls.clear()
    for name in ("combined data", "combined rows"):
        inner, outer = ([dist.new_group(ranks) for ranks in sides] for sides in (((0, 1), (2, 3)), ((0, 2), (1, 3))))
        inner, outer = inner[rank // 2], outer[rank % 2]
        if name == "combined data":
            A = distributed.data_parallel(
                slq_torch.hessian, network(), worse, share(rank % 2, 2), group=inner, strategy="graph", memory=0
            )
        else:
            A = distributed.sharded_csr(folder, group=inner, timeout=WAIT)
            if last:
                A._own = Failing(A._own)
        began = time.monotonic()
        text = said(lambda A=A, group=outer: distributed.spectrum(A, probes=2, steps=30, rng=0, group=group))
        found[name] = [text, time.monotonic() - began]
    dist.barrier()
    return found


class Failing:
    """Multiplies five times."""

    def __init__(self, product):
        self._product, self._left = product, 5

    def __call__(self, X):
        self._left -= 1
        if self._left < 0:
            msg = "no room"
            raise MemoryError(msg)
        return self._product(X)


def die(rank, size):
    """The last rank ends itself in the middle of a product; called last."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        if rank == size - 1 and len(calls) > 20:
            os._exit(3)
        return mean(model, batch)

    operator = distributed.data_parallel(
        slq_torch.hessian, network(), loss, share(rank, size), memory=0, strategy="graph"
    )
    began = time.monotonic()
    text = said(lambda: slq.spectrum(operator, probes=1, steps=60, rng=0, reorth="full"))
    return [text, time.monotonic() - began]


CHECKS = [
    split_data,
    adapt,
    split_probes,
    count_traffic,
    weigh_vectors,
    split_parameters,
    cut_layers,
    cut_small,
    combine,
    unwrap,
    complain,
    functions,
    resume,
    fail,
    die,
]


def work(folder, rank, size):
    torch.set_num_threads(1)
    where = f"file://{folder}/meeting-{size}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=timedelta(seconds=TIMEOUT))
    found = {}
    for check in CHECKS:
        if check in (fail, die) and size == 1:
            continue
        began = time.monotonic()
        try:
            found[check.__name__] = check(rank, size)
        except Exception:
            found[check.__name__] = f"failed: {traceback.format_exc()}"
        found.setdefault("seconds", {})[check.__name__] = time.monotonic() - began
        Path(folder, f"{size}-{rank}.json").write_text(json.dumps(found, default=str))
    os._exit(0)  # a group that has lost a rank cannot be taken down


def main(folder):
    os.chdir(folder)
    for size in (4, 3, 2, 1):  # two ranks resume what four began
        children = []
        for rank in range(size):
            if (child := os.fork()) == 0:
                work(folder, rank, size)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        ranks = [json.loads(Path(folder, f"{size}-{rank}.json").read_text()) for rank in range(size)]
        Path(folder, f"{size}.json").write_text(json.dumps(ranks))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
