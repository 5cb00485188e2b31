"""What slq multiplies by: the `SymmetricOperator` protocol and `as_operator`, which gives any object that shape.

Only products pass through here. Whether the operator really is symmetric, repeatable and finite is tested where it
is used. Matrices of foreign libraries (torch, CuPy, JAX) are recognised by the module of their type and handed to
the adapter that registered under the entry-point group `slq.adapters`, imported only then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import scipy.sparse

from slq import _arrays
from slq._arrays import Array
from slq._errors import RunError
from slq._kernels._entries import Traces, dense_traces
from slq._kernels._kernels import Product
from slq._kernels._kernels_numpy import Rows
from slq._kernels._triangles import require_two_triangles
from slq._operators._linear import Linear
from slq._operators._timeout import limited
from slq._shards import Reduce, Shards, own

Multiply = Callable[[Array], Array]

# Krylov vectors are stored one after the other: what takes them so, or one by one, needs no other order.
_BY_COLUMNS: Literal["F"] = "F"

# Rows of a block that are compared with what they were before a product, about.
_SAMPLE = 64
# Top modules of types whose library has another name.
_LIBRARY = {"jaxlib": "jax"}


@runtime_checkable
class SymmetricOperator(Protocol):
    """A symmetric or Hermitian matrix of which only products are known. Duck-typed: nothing needs to inherit from it.

    Optional attributes: `xp` (array namespace, NumPy if absent), `device`, `order` ("C" or "F": the memory order it
    likes blocks in), `noise` (relative error of one product), `metadata` (JSON-able facts), `krylov` (makes a
    recurrence of its own, as for `Operator`), `traces` (the two floats tr A and tr A^2, where they are known exactly,
    or None: asked for once in a run, they save probes for every other trace).

    With `reduce` and `rows` vectors are cut into shards, one on each of several ranks that run the same program:
    `shape` stays (n, n), blocks have the rows of `rows` only, a range or a tuple of ascending ones, and `reduce` sums a
    small array, of NumPy or of the operator's library, over ranks. Then `noise` and `traces` must be the same on all.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """The shape, (n, n)."""
        ...

    @property
    def dtype(self) -> Any:
        """A floating dtype of the operator's own array library; complex for a Hermitian matrix."""
        ...

    def matmat(self, X: Array, /) -> Array:
        """Return A @ X for an (n, b) block of column vectors in the operator's own array library."""
        ...


def unknown_traces() -> None:
    """Return the traces of an operator that does not know them."""


@dataclass(frozen=True, slots=True)
class Operator(Linear):
    """A `SymmetricOperator` with every optional attribute filled in. Made by `as_operator`.

    Operators of one shape, array library, dtype and device can be added and subtracted, multiplied and divided by
    numbers; a number that is added stands for that number times the identity.

    Attributes
    ----------
    n : int
        Dimension.
    dtype : dtype
        Of the operator's own array library.
    product : callable
        (n, b) block -> (n, b) block.
    xp : module
        Array namespace of the blocks.
    device : object
        Where the blocks live, as `xp` names devices.
    order : {"C", "F"}
        Memory order in which the product likes its blocks.
    noise : float
        Relative error of one product beyond rounding; 0 when products are exact to rounding.
    metadata : Mapping
        Facts about the operator that are kept with every result.
    krylov : callable, optional
        ``krylov(start, reorth=bool, references=array or None)`` makes what takes the place of the core's recurrence:
        an object with the methods of `slq._lanczos._krylov.Krylov`, for libraries that have fused kernels of their own.
    traces : callable
        Returns tr A and tr A^2 as two floats where they are known exactly, else None; may cost a pass over the matrix.
    deflates : bool
        Whether a run may project known eigenvectors out (P A P): not where `krylov` multiplies otherwise than `product`
        or every eigenvector has a twin.
    copies : int
        How often every eigenvalue occurs that counts once: 2 for the real form of a complex Hermitian matrix.
    source : object
        What was wrapped; its `noise` and `metadata` are read again after the run, when it may know more.
    reduce : callable
        Sums a small array over ranks, where vectors are cut into shards; itself by default.
    rows : tuple of range, optional
        The numbers of the rows that blocks have here then; all by default.
    """

    n: int
    dtype: Any
    product: Multiply
    xp: Any
    device: Any
    order: Literal["C", "F"] = "C"
    noise: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    krylov: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    traces: Callable[[], Traces | None] = field(default=unknown_traces, repr=False, compare=False)
    source: Any = field(default=None, repr=False, compare=False)
    deflates: bool = True
    copies: int = 1
    reduce: Reduce = field(default=own, repr=False, compare=False)
    rows: tuple[range, ...] | None = None

    @property
    def shards(self) -> Shards:
        """Which rows of vectors are here."""
        return Shards(self.n, (range(self.n),) if self.rows is None else self.rows, self.reduce)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape, (n, n)."""
        return (self.n, self.n)

    def matmat(self, X: Array, /) -> Array:
        """Return A @ X."""
        return self.product(X)


def as_operator(
    obj: Any, /, *, n: int | None = None, like: Array | None = None, block: bool = False, timeout: float | None = None
) -> Operator:
    """Return `obj` as an operator that slq can multiply by.

    Nothing is multiplied here, and matrices are not copied, except integer and boolean ones, which become float64
    (float32 on a device without it). Dense float16 and bfloat16 matrices stay as they are and are multiplied in
    float32, some rows at a time.

    Parameters
    ----------
    obj : object
        A 2-D array of any array-API library; a scipy.sparse matrix; a torch or cupyx matrix (through its adapter); a
        scipy LinearOperator; any object with `shape` and one of `matmat`, `matvec`, `@`; or a callable, with `n`.
    n : int, optional
        Dimension, for a callable only.
    like : array, optional
        An array whose library, dtype and device the vectors shall have. Needed for a callable, or for an object that
        does not say, that works on anything else than NumPy float64.
    block : bool, default False
        For a callable: whether it takes (n, b) blocks. By default it is called with one (n,) vector at a time, since a
        function written for vectors can accept a block and return nonsense.
    timeout : float, optional
        Seconds that one product may take, of a block as wide as it comes; without limit by default. A product that has
        not returned then is given up: TimeoutError, and of a run RunError, with all that was done before. Products are
        made one by one in a thread of their own for that, which costs about 0.1 ms each; of a device they are waited
        for. One that hangs stays in its thread, which cannot be ended but with the process, and goes on with whatever
        it changes. Python itself cannot go on where compiled code hangs and holds its lock. A sparse
        matrix, which slq multiplies by itself, needs no limit and gets none.

    Returns
    -------
    Operator
        With `matmat`, `shape`, `dtype`, `xp`, `device`, `order`, `noise` and `metadata`.

    Raises
    ------
    TypeError
        If `obj` offers no product, is a lazy (dask) array, or has a dtype that is neither floating nor complex and
        cannot be converted, or `n` is no integer.
    ValueError
        If `obj` is empty or not square, `n` is missing for a callable, or `timeout` is not positive, or is asked for
        where vectors are cut into shards.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> diagonal = np.linspace(-1.0, 1.0, 50)
    >>> operator = slq.as_operator(lambda v: diagonal * v, n=50)
    >>> operator.shape
    (50, 50)
    """
    if timeout is not None:
        return _with_timeout(as_operator(obj, n=n, like=like, block=block), timeout)
    if isinstance(obj, Operator):
        return obj
    if _arrays.is_deferred(obj):
        msg = (
            f"`A` is a {type(obj).__module__.split('.')[0]} array, which only writes down what is to be computed: each "
            "of hundreds of products would be planned anew. Compute it first, or pass a callable that multiplies "
            "NumPy blocks: as_operator(lambda X: (A @ X).compute(), n=A.shape[0], block=True)."
        )
        raise TypeError(msg)
    if scipy.sparse.issparse(obj):
        return _from_sparse(obj)
    adapted = _from_adapter(obj)
    if adapted is not None:
        return _from_object(adapted, like)
    if _arrays.is_array(obj):
        return _from_array(obj)
    if hasattr(obj, "shape"):
        return _from_object(obj, like)
    if callable(obj):
        return _from_callable(obj, n, np.zeros(1) if like is None else like, block)
    msg = (
        f"`A` must be a square matrix or something to multiply by, got {type(obj).__name__}. Pass a 2-D array, a "
        "sparse matrix, an object with `shape` and `matmat`, `matvec` or `@`, or a callable together with `n=`."
    )
    raise TypeError(msg)


def _with_timeout(operator: Operator, seconds: float) -> Operator:
    """Return an operator whose products may take so many seconds each."""
    product = limited(operator.product, seconds, str(operator.metadata.get("kind", "the operator")))
    if not operator.shards.whole:
        msg = (
            "`timeout` is not for vectors that are cut into shards: ranks wait for each other in a product, and one "
            "that goes on alone leaves the others behind. Give it to init_process_group(timeout=...), which ends all."
        )
        raise ValueError(msg)
    return operator if isinstance(operator.product, Product) else replace(operator, product=product)


def as_whole(obj: Any, /) -> Operator:
    """Return `obj` as an operator whose vectors are whole, for what does not work on shards."""
    operator = as_operator(obj)
    if not operator.shards.whole:
        msg = (
            "vectors of `A` are cut into shards over several ranks, and this function takes whole ones; slq.spectrum, "
            "all that is asked of a spectrum, slq.eigsh, slq.apply, slq.matrix_function, slq.lanczos, slq.check and "
            "the estimators of traces take shards."
        )
        raise TypeError(msg)
    return operator


def as_symmetric(obj: Any, /, *, shards: bool = False) -> Operator:
    """Return `obj` as a real symmetric operator, for what takes no complex one; on shards where they may be."""
    operator = as_operator(obj) if shards else as_whole(obj)
    if _arrays.is_complex(operator.dtype):
        msg = (
            f"`A` has dtype {_arrays.dtype_name(operator.dtype)}, and this function takes real symmetric operators; "
            "slq.spectrum, what is asked of a spectrum, and slq.eigsh take Hermitian ones. H = R + iS has the "
            "eigenvalues of the real symmetric [[R, -S], [S, R]], each twice: slq.real_form(H) multiplies by that."
        )
        raise TypeError(msg)
    return operator


def multiplied(operator: Operator, columns: Array) -> Array:
    """Return A times a block, of the block's field, shape, library and device; the block is found as it was.

    Products that write into their argument are refused, as far as the host can see, and what they return is the
    caller's alone: neither the argument itself nor a view of it.
    """
    own = _arrays.host_view(columns)
    before = None if own is None else own[:: max(1, len(own) // _SAMPLE)].copy()
    block = operator.product(columns)
    require_block(block, columns)
    if own is None or before is None:
        return block
    if not np.array_equal(before, own[:: max(1, len(own) // _SAMPLE)], equal_nan=True):
        msg = (
            "a product writes into its argument: the block that was multiplied came back changed. Copy it first, or "
            "avoid operations in place."
        )
        raise RunError(msg)
    made = _arrays.host_view(block)
    return operator.xp.asarray(block, copy=True) if made is not None and np.may_share_memory(made, own) else block


def require_block(block: Any, columns: Array) -> None:
    """Refuse a product that is no block of the field, the shape, the library and the device of what was multiplied."""
    found, shape = tuple(getattr(block, "shape", ())), tuple(columns.shape)
    if found != shape:
        msg = (
            f"a product of a block of shape {shape} must have that shape, got {found} from a "
            f"{type(block).__name__}. Check what `matmat` or the callable returns."
        )
        raise RunError(msg)
    _require_home(block, columns)
    made, given = (_arrays.is_complex(x.dtype) for x in (block, columns))
    if made and not given:
        msg = "a product of real vectors came out complex. If its imaginary part is rounding, return the real part."
        raise RunError(msg)
    if given and not made:
        msg = "a product of complex vectors came out real: something cut their imaginary part. Keep it in the product."
        raise RunError(msg)


def require_one_home(operators: Sequence[Any]) -> None:
    """Refuse operators that do not share one array library, device and dtype."""
    homes = [(_arrays.library(A.xp), A.device, A.dtype) for A in operators]
    for home in homes[1:]:
        for what, one, other in zip(("array library", "device", "dtype"), homes[0], home, strict=True):
            if one != other:
                msg = f"operators must share one {what}, got {one} and {other}. Convert one of them first."
                raise TypeError(msg)


def noise_of(operator: Operator) -> float:
    """Return the relative error of an operator, also what its source learned since."""
    return max(operator.noise, float(getattr(operator.source, "noise", 0.0)))


def image_rows(operator: Operator, rows: Array) -> Array:
    """Return A applied to each of some rows, as rows in the dtype of the product."""
    columns = _arrays.cast(rows, operator.dtype, operator.xp).T
    if operator.order == "C" and _arrays.is_numpy(operator.xp):
        columns = np.ascontiguousarray(columns)
    return _arrays.rows_of(multiplied(operator, columns), operator.xp)


def _from_sparse(matrix: Any) -> Operator:
    n = _dimension(matrix.shape)
    matrix = floating(matrix.tocsr() if matrix.format != "csr" else matrix)
    require_two_triangles(matrix)
    rows = Rows(matrix)
    return Operator(
        n,
        matrix.dtype,
        Product(rows),
        _arrays.namespace_of_dtype(matrix.dtype),
        "cpu",
        metadata={"kind": "sparse matrix", "nonzeros": int(matrix.nnz)},
        traces=rows.traces,
    )


def _from_array(matrix: Array) -> Operator:
    n = _dimension(matrix.shape)
    xp = _arrays.namespace_of(matrix)
    matrix = floating(matrix, xp)
    device, traces = _arrays.device_of(matrix), partial(dense_traces, matrix, xp)
    if _arrays.is_half(matrix.dtype):
        product = partial(_arrays.widened_product, matrix, xp)
        facts = {"kind": f"dense {_arrays.dtype_name(matrix.dtype)} matrix, multiplied in float32"}
        return Operator(n, xp.float32, product, xp, device, _BY_COLUMNS, metadata=facts, traces=traces)
    facts = {"kind": "dense matrix"}
    return Operator(n, matrix.dtype, matrix.__matmul__, xp, device, _BY_COLUMNS, metadata=facts, traces=traces)


def _from_object(obj: Any, like: Array | None) -> Operator:
    n = _dimension(obj.shape)
    dtype, xp, device = home_of(obj, like)
    _require_floating(dtype, type(obj).__name__)
    product: Multiply
    order: Any = getattr(obj, "order", "C")
    if isinstance(getattr(obj, "product", None), Product):
        product = obj.product  # a matrix that a fused step can read
    elif hasattr(obj, "matmat"):
        product = obj.matmat
    elif hasattr(obj, "__matmul__"):
        product = obj.__matmul__
    elif hasattr(obj, "matvec"):
        product, order = columnwise(obj.matvec, xp), _BY_COLUMNS
    else:
        msg = f"`A` of type {type(obj).__name__} has a shape but no `matmat`, `matvec` or `@` to multiply by."
        raise TypeError(msg)
    return Operator(
        n,
        dtype,
        product,
        xp,
        device,
        order,
        float(getattr(obj, "noise", 0.0)),
        {"kind": type(obj).__name__, **getattr(obj, "metadata", {})},
        getattr(obj, "krylov", None),
        product.source.traces if isinstance(product, Product) else partial(getattr, obj, "traces", None),
        obj,
        bool(getattr(obj, "deflates", True)),
        int(getattr(obj, "copies", 1)),
        **_shards_of(obj, n),
    )


def _shards_of(obj: Any, n: int) -> dict[str, Any]:
    """Return how the vectors of an operator are cut, where they are."""
    reduce = getattr(obj, "reduce", None)
    if reduce is None:
        return {}
    rows = getattr(obj, "rows", None)
    if rows is None:
        msg = "an operator with `reduce` needs `rows`: which of the n rows its blocks have here, as a tuple of ranges."
        raise TypeError(msg)
    return {"reduce": reduce, "rows": (rows,) if isinstance(rows, range) else tuple(rows)}


def _from_callable(function: Multiply, n: int | None, like: Array, block: bool) -> Operator:
    if n is None:
        msg = "`n` is missing: a callable does not tell its dimension. Pass as_operator(f, n=...) or wrap it first."
        raise ValueError(msg)
    if not hasattr(n, "__index__"):
        msg = f"`n` must be an integer, got {n!r}."
        raise TypeError(msg)
    n = _dimension((n, n))
    xp = _arrays.namespace_of(like)
    _require_floating(like.dtype, "like")
    product = function if block else columnwise(function, xp)
    order: Literal["C", "F"] = "C" if block else _BY_COLUMNS
    return Operator(n, like.dtype, product, xp, _arrays.device_of(like), order, metadata={"kind": "callable"})


def _from_adapter(obj: Any) -> Any | None:
    """Ask the adapter named after the top module of `obj`'s type or of one that it inherits from, if registered."""
    tops = tuple(base.__module__.split(".")[0] for base in type(obj).__mro__)
    convert = _converter(tops, tuple(sys.path))
    return None if convert is None else convert(obj)


@lru_cache(maxsize=256)
def _converter(tops: tuple[str, ...], path: tuple[str, ...]) -> Callable[[Any], Any] | None:
    """Load the first adapter that is named after one of some modules.

    Searching the installed packages takes milliseconds, so what was found on a search path is kept: an adapter that is
    installed while the process runs serves types of modules that were not asked about before.
    """
    registered = {entry.name: entry for entry in entry_points(group="slq.adapters")}
    first = next((top for top in (_LIBRARY.get(top, top) for top in tops) if top in registered), None)
    return None if first is None else registered[first].load()


def home_of(obj: Any, like: Array | None) -> tuple[Any, Any, Any]:
    """Return dtype, namespace and device of the vectors that `obj` multiplies."""
    if like is not None:
        return like.dtype, _arrays.namespace_of(like), _arrays.device_of(like)
    dtype = getattr(obj, "dtype", None)
    dtype = np.dtype(np.float64) if dtype is None else dtype
    given = getattr(obj, "xp", None)
    xp = _arrays.namespace_of_dtype(dtype) if given is None else _arrays.wrapped(given)
    return dtype, xp, getattr(obj, "device", "cpu" if _arrays.is_numpy(xp) else None)


def columnwise(function: Multiply, xp: Any, rows: int | None = None) -> Multiply:
    """Make a product of blocks from a product of vectors, of other length where `rows` says so."""

    def product(X: Array) -> Array:
        columns, n = [function(X[:, j]) for j in range(X.shape[1])], rows or X.shape[0]
        for column in columns:
            if tuple(getattr(column, "shape", ())) != (n,):
                wanted = "that shape" if rows is None else f"shape ({n},)"
                msg = (
                    f"the product of a vector of shape ({X.shape[0]},) must have {wanted}, got "
                    f"{tuple(getattr(column, 'shape', ()))} from {getattr(function, '__qualname__', function)}."
                )
                raise RunError(msg)
            _require_home(column, X)
        return xp.stack(columns, axis=1)

    return product


def _require_home(product: Any, columns: Array) -> None:
    """Refuse a product that came out on another device, or as an array of another library, than what was multiplied."""
    found, given = _arrays.home(product), _arrays.home(columns)
    if found != given:
        msg = (
            f"a product of {given} came back as {found}. Both must be one library's, on one device: pass `like=` an "
            "array of the library and device that the product works on, or convert inside the product."
        )
        raise RunError(msg)


def _dimension(shape: tuple[int, ...]) -> int:
    if len(shape) != 2 or shape[0] != shape[1]:
        msg = (
            f"`A` must be square and two-dimensional, got shape {tuple(shape)}. For singular values of a rectangular "
            "matrix B pass slq.gram(B)."
        )
        raise ValueError(msg)
    if shape[0] < 1:
        msg = f"`A` must have at least one row, got shape {tuple(shape)}."
        raise ValueError(msg)
    return int(shape[0])


def floating(matrix: Any, xp: Any = None) -> Any:
    """Return a stored matrix with floating entries; integers and booleans become the longest that there is."""
    name = _arrays.dtype_name(matrix.dtype)
    if name.startswith(("int", "uint", "bool")):
        if xp is None:
            return matrix.astype(np.float64)
        return xp.astype(matrix, _arrays.accumulator_dtype(xp, _arrays.device_of(matrix)))
    _require_floating(matrix.dtype, "A")
    return matrix


def _require_floating(dtype: Any, name: str) -> None:
    kind = _arrays.dtype_name(dtype)
    if not (_arrays.is_floating(dtype) or kind in ("complex64", "complex128")):
        msg = f"`{name}` has dtype {kind}; products need a floating dtype such as float64 or complex128. Convert it."
        raise TypeError(msg)
