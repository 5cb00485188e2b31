"""Where vectors live: on the parameters' device, or spread over the mesh that the parameters are sharded over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of vectors; or a mesh, over whose devices vectors are cut where they can be, else repeated.

    Attributes
    ----------
    device : Device or NamedSharding
        Where to put new arrays of any shape.
    rows : NamedSharding or None
        How (b, n) blocks are cut; None on a single device.
    """

    device: Any
    rows: NamedSharding | None = None

    def place(self, rows: jax.Array) -> jax.Array:
        """Lay out a (b, n) block, inside or outside of a compiled function."""
        return rows if self.rows is None else jax.lax.with_sharding_constraint(rows, self.rows)


def automatic(tree: Any) -> Any:
    """Return a tree whose sharded arrays leave the layout of results to the compiler; no data move.

    On a mesh with explicit axes every reshape would have to say how its result is cut.
    """
    return jax.tree.map(_automatic, tree)


def _automatic(x: Any) -> Any:
    sharding = getattr(x, "sharding", None)
    if not isinstance(sharding, NamedSharding) or AxisType.Explicit not in sharding.mesh.axis_types:
        return x
    mesh = Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
    return jax.device_put(x, NamedSharding(mesh, sharding.spec))


def placement_of(names: Sequence[str], leaves: Sequence[jax.Array], size: int) -> Placement:
    """Find where vectors of so many numbers go beside these arrays, or refuse arrays that cannot meet."""
    single: dict[Any, str] = {}
    meshes: dict[Any, str] = {}
    for name, leaf in zip(names, leaves, strict=True):
        sharding: Any = leaf.sharding
        if len(sharding.device_set) == 1:
            single.setdefault(next(iter(sharding.device_set)), name)
        elif isinstance(sharding, NamedSharding):
            meshes.setdefault(sharding.mesh, name)
        else:
            msg = (
                f"Parameter {name!r} is spread over {len(sharding.device_set)} devices by a "
                f"{type(sharding).__name__}. Put it onto a mesh: jax.device_put(x, NamedSharding(mesh, spec))."
            )
            raise ValueError(msg)
    kinds = meshes or single
    if len(kinds) > 1:
        where = ", ".join(f"{place} ({name!r})" for place, name in kinds.items())
        msg = f"The parameters must share one device or one mesh, got {where}. Move them with jax.device_put."
        raise ValueError(msg)
    if not meshes:
        return Placement(next(iter(single)))
    (mesh,) = meshes
    even = size % mesh.devices.size == 0  # JAX cuts arrays into equal parts only
    spec = PartitionSpec(None, mesh.axis_names) if even else PartitionSpec()
    return Placement(NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, spec))
