"""Rows of a block as SIMD registers inside numba functions: `Vector` values that hold one row of k numbers.

numba vectorises neither the short inner loop over k probes nor sums kept over rows, so kernels say what they mean: a
row is loaded whole, multiplied and added as one LLVM vector, and stored whole. LLVM cuts it into the registers that
the processor has. Nothing here is called from Python; importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic, models, register_model

# Lets LLVM fuse a product and a sum into one instruction; nothing else is relaxed.
_CONTRACT = ("contract",)


class Vector(types.Type):
    """The numba type of `width` numbers of one dtype."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Vector({dtype}, {width})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        number = ir.DoubleType() if kind.dtype is types.float64 else ir.FloatType()
        super().__init__(manager, kind, ir.VectorType(number, kind.width))


@intrinsic(prefer_literal=True)
def zeros(_: Any, like: Any, width: Any) -> Any:
    """Return a zero vector of the array's dtype and a width known to the compiler."""
    if not isinstance(width, types.IntegerLiteral):
        raise RequireLiteralValue(width)
    kind = Vector(like.dtype, width.literal_value)

    def generate(context: Any, _: Any, signature: Any, __: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return kind(like, width), generate


@intrinsic
def load(_: Any, block: Any, row: Any, like: Any) -> Any:
    """Return one row of a block, as wide as `like`."""
    kind = Vector(block.dtype, like.width)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _row(context, builder, signature.args, args)
        to = context.get_value_type(signature.return_type).as_pointer()
        value = builder.load(builder.bitcast(pointer, to))
        value.align = block.dtype.bitwidth // 8
        return value

    return kind(block, row, like), generate


@intrinsic
def store(_: Any, block: Any, row: Any, value: Any) -> Any:
    """Write a vector over one row of a block."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _row(context, builder, signature.args, args)
        to = context.get_value_type(signature.args[2]).as_pointer()
        builder.store(args[2], builder.bitcast(pointer, to)).align = block.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(block, row, value), generate


@intrinsic
def add_product(_: Any, total: Any, a: Any, b: Any) -> Any:
    """Return total + a b; `a` may be a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = _as_vector(context, builder, signature, 1, args)
        return builder.fadd(args[0], builder.fmul(a, args[2], flags=_CONTRACT), flags=_CONTRACT)

    return total(total, a, b), generate


@intrinsic
def times(_: Any, a: Any, b: Any) -> Any:
    """Return a b; `a` may be a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(_as_vector(context, builder, signature, 0, args), args[1], flags=_CONTRACT)

    return b(a, b), generate


@intrinsic
def widened(_: Any, value: Any) -> Any:
    """Return a vector in float64."""
    kind = Vector(types.float64, value.width)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if signature.args[0].dtype is types.float64:
            return args[0]
        return builder.fpext(args[0], context.get_value_type(signature.return_type))

    return kind(value), generate


@intrinsic
def spread(_: Any, value: Any, like: Any) -> Any:
    """Return a vector as wide as `like` that repeats another one."""

    def generate(__: Any, builder: Any, signature: Any, args: Any) -> Any:
        short, long = signature.args[0].width, signature.return_type.width
        mask = ir.Constant(ir.VectorType(ir.IntType(32), long), [lane % short for lane in range(long)])
        return builder.shuffle_vector(args[0], args[0], mask)

    return Vector(value.dtype, like.width)(value, like), generate


@intrinsic
def folded(_: Any, value: Any, like: Any) -> Any:
    """Return the sum of a vector's pieces as wide as `like`, from first to last."""

    def generate(__: Any, builder: Any, signature: Any, args: Any) -> Any:
        long, short = (kind.width for kind in signature.args)
        total = ir.Constant(ir.VectorType(args[0].type.element, short), None)
        for first in range(0, long, short):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), short), list(range(first, first + short)))
            total = builder.fadd(total, builder.shuffle_vector(args[0], args[0], mask))
        return total

    return Vector(value.dtype, like.width)(value, like), generate


@intrinsic
def prefetch(_: Any, block: Any, row: Any) -> Any:
    """Ask for one row of a block to be brought near."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        pointer = builder.bitcast(_row(context, builder, signature.args, args), byte)
        builder.call(function, [pointer, word(0), word(3), word(1)])  # to read, into all caches, data
        return context.get_dummy_value()

    return types.void(block, row), generate


def _row(context: Any, builder: Any, kinds: Any, args: Any) -> Any:
    """Return the address of a block's row; `args` begins with the block and the row's number."""
    block = context.make_array(kinds[0])(context, builder, args[0])
    row = context.cast(builder, args[1], kinds[1], types.intp)
    indices = [row, context.get_constant(types.intp, 0)]
    return cgutils.get_item_pointer(context, builder, kinds[0], block, indices, wraparound=False)


def _as_vector(context: Any, builder: Any, signature: Any, place: int, args: Any) -> Any:
    """Return an argument as a vector; a number is put at all places of one."""
    number = args[place]
    if isinstance(signature.args[place], Vector):
        return number
    kind = context.get_value_type(signature.return_type)
    number = context.cast(builder, number, signature.args[place], signature.return_type.dtype)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask)
