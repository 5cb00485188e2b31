"""Whatever can multiply becomes an operator, and what cannot is told why."""

import functools
import warnings

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import slq
from slq import _arrays, as_operator
from slq._lanczos._lanczos import LanczosRun
from slq._operators._operators import Operator, SymmetricOperator

N = 12
FORMATS = ["csr", "csc", "coo", "dia", "bsr", "lil", "dok"]


def block_of(n, width=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width))


class Shaped:
    """An object with a shape and the given attributes, nothing else."""

    def __init__(self, n=N, **attributes):
        self.shape = (n, n)
        for name, value in attributes.items():
            setattr(self, name, value)


class WithAt(Shaped):
    """An object with a shape and `@`."""

    def __matmul__(self, X):
        return self.matrix @ X


class TestMatrices:
    def test_a_dense_array_multiplies_in_its_own_library(self, backend, symmetric):
        A, X = symmetric(N), block_of(N)
        operator = as_operator(backend.asarray(A))
        assert isinstance(operator, Operator)
        assert isinstance(operator, SymmetricOperator)
        assert (operator.shape, operator.n) == ((N, N), N)
        assert operator.dtype == backend.dtype
        assert operator.xp is backend.xp
        assert operator.device == backend.device
        assert_allclose(backend.to_numpy(operator.matmat(backend.asarray(X))), A @ X, atol=100 * backend.eps)

    def test_a_dense_array_is_not_copied(self):
        A = np.diag([1.0, 2.0])
        operator = as_operator(A)
        A[0, 0] = 5.0
        assert operator.matmat(np.eye(2))[0, 0] == 5.0

    @pytest.mark.parametrize("container", ["array", "matrix"])
    @pytest.mark.parametrize("layout", FORMATS)
    def test_every_scipy_format_multiplies(self, layout, container, symmetric):
        A, X = symmetric(N) * (np.abs(symmetric(N, 1)) > 0.3), block_of(N)
        A = np.triu(A) + np.triu(A, 1).T
        sparse = getattr(scipy.sparse, f"{layout}_{container}")(A)
        operator = as_operator(sparse)
        assert operator.dtype == np.float64
        assert operator.metadata["nonzeros"] == np.count_nonzero(A)
        assert_allclose(operator.matmat(X), A @ X, atol=1e-14)
        assert type(operator.matmat(X)) is np.ndarray

    @pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.bool_])
    def test_integer_and_boolean_matrices_become_float64(self, dtype):
        A = np.array([[0, 1], [1, 1]]).astype(dtype)
        for matrix in (A, scipy.sparse.csr_array(A), scipy.sparse.coo_matrix(A)):
            operator = as_operator(matrix)
            assert operator.dtype == np.float64
            assert_array_equal(operator.matmat(np.array([[0.5], [0.25]])), [[0.25], [0.75]])

    def test_integer_matrices_become_the_longest_dtype_of_the_device(self, backend):
        A = backend.asarray([[0, 1], [1, 1]], dtype=backend.xp.int32)
        operator = as_operator(A)
        longest = _arrays.accumulator_dtype(backend.xp, backend.device)
        assert operator.dtype == longest
        product = operator.matmat(backend.asarray([[0.5], [0.25]], dtype=longest))
        assert_array_equal(backend.to_numpy(product), [[0.25], [0.75]])

    def test_float32_stays_float32(self):
        for matrix in (np.eye(3, dtype=np.float32), scipy.sparse.eye_array(3, dtype=np.float32, format="csr")):
            assert as_operator(matrix).dtype == np.float32

    @pytest.mark.parametrize("layout", ["coo", "csr", "csc"])
    @pytest.mark.parametrize("kind", ["float64", "float32", "int64", "bool"])
    def test_sparse_torch_tensors_come_through_their_adapter(self, layout, kind, torch):
        pytest.importorskip("slq_torch")
        A = np.array([[2.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
        A = A != 0 if kind == "bool" else A
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse .* beta")
            dense = torch.as_tensor(A).to(getattr(torch, kind))
            tensor = dense.to_sparse(layout=getattr(torch, f"sparse_{layout}"))
        operator = as_operator(tensor)
        X = torch.as_tensor(block_of(3)).to(operator.dtype)
        assert operator.xp.__name__ == "array_api_compat.torch"
        assert operator.dtype == (torch.float32 if kind == "float32" else torch.float64)
        assert_allclose(operator.matmat(X).numpy(), A @ X.numpy(), rtol=1e-6)

    def test_a_tensor_that_follows_gradients_multiplies_without_a_graph(self, torch):
        pytest.importorskip("slq_torch")
        A = torch.eye(3, dtype=torch.float64, requires_grad=True)
        assert as_operator(A).matmat(torch.ones(3, 1, dtype=torch.float64)).grad_fn is None


class TestObjects:
    def test_a_scipy_linear_operator_multiplies(self, symmetric):
        A, X = symmetric(N), block_of(N)
        for linear in (aslinearoperator(A), LinearOperator((N, N), matvec=lambda v: A @ v)):
            operator = as_operator(linear)
            assert operator.dtype == np.float64
            assert_allclose(operator.matmat(X), A @ X, atol=1e-14)

    def test_a_float32_linear_operator_stays_float32(self):
        assert as_operator(aslinearoperator(np.eye(3, dtype=np.float32))).dtype == np.float32

    def test_shape_with_matvec_matmat_or_at_is_enough(self, symmetric):
        A, X = symmetric(N), block_of(N)
        objects = [Shaped(matvec=lambda v: A @ v), Shaped(matmat=lambda X: A @ X), WithAt(matrix=A)]
        for obj in objects:
            operator = as_operator(obj)
            assert (operator.dtype, operator.device) == (np.float64, "cpu")
            assert_allclose(operator.matmat(X), A @ X, atol=1e-14)

    def test_matvec_is_given_vectors_and_matmat_blocks(self):
        seen = []
        as_operator(Shaped(matvec=lambda v: seen.append(v.shape) or v)).matmat(block_of(N, 2))
        as_operator(Shaped(matmat=lambda X: seen.append(X.shape) or X)).matmat(block_of(N, 2))
        assert seen == [(N,), (N,), (N, 2)]

    def test_blocks_are_preferred_over_vectors(self):
        def refuse(v):
            raise AssertionError

        operator = as_operator(WithAt(matmat=lambda X: 2 * X, matvec=refuse, matrix=None))
        assert_array_equal(operator.matmat(np.ones((N, 1))), np.full((N, 1), 2.0))

    def test_optional_attributes_are_kept(self):
        operator = as_operator(Shaped(matmat=np.copy, order="F", noise=1e-3, metadata={"layers": 2}, device="here"))
        assert (operator.order, operator.noise, operator.device) == ("F", 1e-3, "here")
        assert operator.metadata == {"kind": "Shaped", "layers": 2}

    def test_optional_attributes_have_defaults(self):
        operator = as_operator(Shaped(matmat=np.copy))
        assert (operator.order, operator.noise, operator.metadata) == ("C", 0.0, {"kind": "Shaped"})

    def test_a_dtype_of_torch_or_like_says_where_the_vectors_live(self, torch):
        by_dtype = as_operator(Shaped(matmat=lambda X: X, dtype=torch.float32))
        by_like = as_operator(Shaped(matmat=lambda X: X), like=torch.ones(1))
        for operator in (by_dtype, by_like):
            assert operator.dtype == torch.float32
            assert operator.xp.__name__ == "array_api_compat.torch"
        assert by_like.device == torch.device("cpu")

    def test_a_bare_namespace_is_wrapped(self, torch):
        operator = as_operator(Shaped(matmat=lambda X: 2 * X, dtype=torch.float64, xp=torch))
        T = slq.lanczos(operator, torch.ones(N, dtype=torch.float64), 3)
        assert_allclose(T.alpha, [[2.0]])

    def test_like_of_any_backend_serves_an_object(self, backend, symmetric):
        A = symmetric(N)
        matrix = backend.asarray(A)
        operator = as_operator(Shaped(matmat=lambda X: matrix @ X), like=backend.asarray([0.0]))
        assert operator.dtype == backend.dtype
        T = slq.lanczos(operator, backend.asarray(np.ones(N)), 4)
        assert_allclose(T.alpha, slq.lanczos(A, np.ones(N), 4).alpha, atol=backend.tolerance)

    def test_an_operator_passes_through(self):
        operator = as_operator(np.eye(2))
        assert as_operator(operator) is operator

    def test_the_gallery_satisfies_the_protocol(self):
        operator, _ = slq.gallery.semicircle(20)
        assert isinstance(operator, SymmetricOperator)
        assert as_operator(operator).n == 20


class TestCallables:
    def test_a_function_is_given_one_vector_at_a_time(self):
        shapes, diagonal = [], np.arange(1.0, N + 1)

        def function(v):
            shapes.append(v.shape)
            return diagonal * v

        X = block_of(N, 3)
        operator = as_operator(function, n=N)
        assert (operator.dtype, operator.device, operator.n) == (np.float64, "cpu", N)
        assert_allclose(operator.matmat(X), diagonal[:, None] * X)
        assert shapes == [(N,)] * 3

    def test_a_block_function_is_given_the_block(self):
        shapes = []
        operator = as_operator(lambda X: shapes.append(X.shape) or 3 * X, n=N, block=True)
        assert_array_equal(operator.matmat(np.ones((N, 4))), 3.0)
        assert shapes == [(N, 4)]

    @pytest.mark.parametrize("block", [False, True])
    def test_like_gives_library_dtype_and_device(self, backend, block):
        operator = as_operator(lambda v: 2 * v, n=N, like=backend.asarray([0.0]), block=block)
        assert (operator.dtype, operator.xp, operator.device) == (backend.dtype, backend.xp, backend.device)
        product = operator.matmat(backend.asarray(np.ones((N, 2))))
        assert_array_equal(backend.to_numpy(product), 2.0)

    def test_partial_objects_methods_and_numpy_sizes_are_fine(self):
        operator = as_operator(functools.partial(np.multiply, 2.0), n=np.int64(N))
        assert operator.n == N
        assert type(operator.n) is int
        assert as_operator(np.ones(N).__mul__, n=N).matmat(np.ones((N, 1))).shape == (N, 1)

    @pytest.mark.parametrize("block", [False, True])
    def test_the_identity_that_returns_its_argument_does_not_corrupt_the_run(self, backend, block):
        operator = as_operator(lambda v: v, n=N, like=backend.asarray([0.0]), block=block)
        T = slq.lanczos(operator, backend.asarray(block_of(N)), 5)
        assert T.lengths.tolist() == [1, 1, 1]
        assert T.invariant.all()
        assert_allclose(T.alpha, 1.0, rtol=4 * backend.eps)

    @pytest.mark.parametrize("block", [False, True])
    def test_a_function_may_return_one_buffer_again_and_again(self, block, symmetric):
        A, v = symmetric(N), block_of(N, 2)
        buffer = np.empty((N, 2) if block else N)

        def into_buffer(X):
            return np.matmul(A, X, out=buffer)

        if not block:  # columns of one product would overwrite each other: a buffer serves one vector only
            v = v[:, :1]
        expected = slq.lanczos(A, v, 6)
        assert_allclose(slq.lanczos(as_operator(into_buffer, n=N, block=block), v, 6).alpha, expected.alpha, atol=1e-13)

    def test_a_function_that_follows_gradients_is_cut_off_from_the_graph(self, torch):
        A = torch.diag(torch.arange(1.0, 6.0)).requires_grad_()
        graphs = []

        def function(v):
            graphs.append(v.grad_fn)
            return A @ v

        v = torch.ones(5, requires_grad=True)
        T = slq.lanczos(as_operator(function, n=5, like=torch.ones(1)), v, 5)
        assert graphs == [None] * 5
        assert_allclose(slq.gauss(T).nodes, [[1, 2, 3, 4, 5]], rtol=1e-5)
        assert v.grad is None
        assert A.grad is None


class TestProductsOfARun:
    def test_there_is_one_product_per_step_for_all_active_probes(self, counted, symmetric):
        matrix = counted(symmetric(30))
        run = LanczosRun(as_operator(matrix), slq._lanczos._probes.probes(30, range(5), seed=0), reorth="full")
        run.advance(11)
        assert matrix.columns == [5] * 11
        assert run.products == 55

    def test_probes_that_ended_are_multiplied_no_more(self, counted):
        matrix = counted(np.diag(np.arange(1.0, 41.0)))
        start = np.concatenate([np.eye(40)[3:4], slq._lanczos._probes.probes(40, range(2), seed=0), np.eye(40)[7:8]])
        run = LanczosRun(as_operator(matrix), start, reorth="full")
        run.advance(20)
        assert matrix.columns == [4] + [2] * 19
        assert run.products == sum(matrix.columns)
        assert run.tridiagonal().lengths.tolist() == [1, 20, 20, 1]

    def test_nothing_is_multiplied_after_all_have_ended(self, counted):
        matrix = counted(np.eye(10))
        run = LanczosRun(as_operator(matrix), slq._lanczos._probes.probes(10, range(3), seed=0), reorth="full")
        run.advance(4)
        run.advance(4)
        assert matrix.columns == [3]
        assert run.finished

    def test_read_only_matrices_and_vectors_are_enough(self, symmetric):
        A, v = symmetric(N), block_of(N)
        expected = slq.lanczos(A, v, 6)
        A.flags.writeable = v.flags.writeable = False
        assert_array_equal(slq.lanczos(A, v, 6).alpha, expected.alpha)

    def test_neither_the_matrix_nor_the_start_vectors_are_changed(self, backend, symmetric):
        matrix, v = backend.asarray(symmetric(N)), backend.asarray(block_of(N))
        slq.lanczos(matrix, v, 6)
        assert_array_equal(backend.to_numpy(matrix), backend.to_numpy(backend.asarray(symmetric(N))))
        assert_array_equal(backend.to_numpy(v), backend.to_numpy(backend.asarray(block_of(N))))

    def test_a_product_that_is_given_in_float32_counts_as_float32(self, symmetric):
        A = symmetric(N).astype(np.float32)
        operator = as_operator(lambda X: A @ X.astype(np.float32), n=N, block=True)
        assert operator.dtype == np.float64
        run = LanczosRun(operator, slq._lanczos._probes.probes(N, range(2), seed=0), reorth="full")
        run.advance(N)
        assert run.rounding == np.finfo(np.float32).eps
        nodes = slq.gauss(run.tridiagonal()).nodes
        assert_allclose(nodes, np.tile(np.linalg.eigvalsh(A.astype(np.float64)), (2, 1)), atol=1e-5)

    def test_rounding_of_a_float32_identity_is_not_taken_for_a_spectrum(self):
        operator = as_operator(lambda X: X.astype(np.float32), n=200, block=True)
        run = LanczosRun(operator, slq._lanczos._probes.probes(200, range(3), seed=0), reorth="full")
        run.advance(20)
        assert run.tridiagonal().lengths.tolist() == [1, 1, 1]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_rounding_of_a_short_matrix_is_not_taken_for_a_spectrum(self, dtype):
        run = LanczosRun(
            as_operator(np.eye(50, dtype=dtype)), slq._lanczos._probes.probes(50, range(2), seed=0), reorth="full"
        )
        run.advance(20)
        assert run.rounding == np.finfo(np.float32).eps  # halves are multiplied in float32
        assert run.tridiagonal().lengths.tolist() == [1, 1]

    def test_a_half_precision_matrix_gives_the_spectrum_of_its_entries(self, symmetric):
        A = symmetric(N).astype(np.float16)
        nodes = slq.gauss(slq.lanczos(A, np.ones(N, dtype=np.float32), N)).nodes[0]
        assert_allclose(nodes[[0, -1]], np.linalg.eigvalsh(A.astype(np.float64))[[0, -1]], atol=1e-5)

    def test_an_extended_precision_matrix_is_run_in_float64(self, symmetric):
        A = symmetric(N)
        T = slq.lanczos(A.astype(np.longdouble), np.ones(N), N)
        assert_allclose(slq.gauss(T).nodes[0], np.linalg.eigvalsh(A), atol=1e-13)

    def test_a_product_of_integers_is_exact_and_not_rounding(self):
        run = LanczosRun(
            as_operator(lambda X: np.zeros(X.shape, dtype=np.int64), n=4, block=True),
            slq._lanczos._probes.probes(4, range(1), seed=0),
            reorth="full",
        )
        run.advance(2)
        assert run.rounding == np.finfo(np.float64).eps
        assert run.tridiagonal().alpha.tolist() == [[0.0]]

    @given(
        A=hnp.arrays(np.float64, st.integers(1, 6).map(lambda n: (n, n)), elements=st.floats(-1e3, 1e3, width=32)),
        form=st.sampled_from(["dense", "csr", "coo", "linear operator", "matvec", "callable", "block"]),
    )
    @settings(deadline=None, max_examples=40)
    def test_all_forms_of_a_matrix_give_the_same_products(self, A, form):
        n, A = len(A), A + A.T
        forms = {
            "dense": lambda: as_operator(A),
            "csr": lambda: as_operator(scipy.sparse.csr_array(A)),
            "coo": lambda: as_operator(scipy.sparse.coo_array(A)),
            "linear operator": lambda: as_operator(aslinearoperator(A)),
            "matvec": lambda: as_operator(Shaped(n, matvec=lambda v: A @ v)),
            "callable": lambda: as_operator(lambda v: A @ v, n=n),
            "block": lambda: as_operator(lambda X: A @ X, n=n, block=True),
        }
        X = block_of(n, 2)
        assert_allclose(forms[form]().matmat(X), A @ X, rtol=1e-12, atol=1e-9)


class TestMessages:
    @pytest.mark.parametrize("obj", [[[1.0, 0.0], [0.0, 1.0]], "A", None, 3.0, {"a": 1}], ids=repr)
    def test_what_cannot_multiply_is_named(self, obj):
        with pytest.raises(TypeError, match=rf"`A` must be a square matrix .*, got {type(obj).__name__}\. Pass a 2-D"):
            as_operator(obj)

    def test_a_shape_without_a_product_is_not_enough(self):
        with pytest.raises(TypeError, match="`A` of type Shaped has a shape but no `matmat`, `matvec` or `@`"):
            as_operator(Shaped())

    @pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3,), (2, 2, 2), ()], ids=str)
    def test_what_is_not_square_is_refused_with_its_shape(self, backend, shape):
        adapted = backend.name.startswith("torch")
        words = "must be a square matrix" if adapted else "must be square and two-dimensional"
        with pytest.raises(ValueError, match=words) as caught:
            as_operator(backend.asarray(np.zeros(shape)))
        assert str(shape) in str(caught.value)

    def test_what_is_rectangular_is_told_about_singular_values(self):
        for obj in (scipy.sparse.csr_array((3, 4)), aslinearoperator(np.ones((3, 4)))):
            with pytest.raises(ValueError, match=r"got shape \(3, 4\)\. For singular values .* slq\.gram\(B\)"):
                as_operator(obj)

    def test_an_empty_matrix_is_refused(self):
        for make in (
            lambda: as_operator(np.zeros((0, 0))),
            lambda: as_operator(np.copy, n=0),
            lambda: as_operator(Shaped(0, matmat=np.copy)),
            lambda: as_operator(np.copy, n=-1),
        ):
            with pytest.raises(ValueError, match=r"`A` must have at least one row, got shape \((0|-1), "):
                make()

    @pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
    def test_where_real_is_needed_complex_matrices_are_told_the_real_form(self, dtype):
        A = np.eye(3, dtype=dtype)
        for operator in (A, scipy.sparse.csr_array(A), aslinearoperator(A), as_operator(np.copy, n=3, like=A)):
            for function in (slq.hutchpp, slq.xtrace, slq.check):
                with pytest.raises(TypeError, match=rf"`A` has dtype {dtype.__name__}, .* slq.real_form\(H\)"):
                    function(operator)

    def test_integer_operators_cannot_be_converted(self):
        with pytest.raises(TypeError, match=r"Operator` has dtype int64; products need a floating dtype .* Convert it"):
            as_operator(aslinearoperator(np.eye(3, dtype=np.int64)))
        with pytest.raises(TypeError, match="`like` has dtype int64; products need a floating dtype"):
            as_operator(np.copy, n=3, like=np.ones(1, dtype=np.int64))

    def test_object_matrices_are_refused(self):
        with pytest.raises(TypeError, match="`A` has dtype object; products need a floating dtype"):
            as_operator(np.array([[1, 2], [2, 1]], dtype=object))

    def test_a_callable_without_n_is_told_how(self):
        with pytest.raises(ValueError, match=r"`n` is missing: .* Pass as_operator\(f, n=\.\.\.\)"):
            as_operator(np.copy)

    @pytest.mark.parametrize("n", [2.5, 3.0, "3"])
    def test_a_dimension_that_is_no_integer_is_refused(self, n):
        with pytest.raises(TypeError, match="`n` must be an integer, got"):
            as_operator(np.copy, n=n)

    @pytest.mark.parametrize(
        ("result", "shape"),
        [(np.ones(3), r"\(3,\)"), (np.ones((N, 1)), rf"\({N}, 1\)"), (None, r"\(\)"), (1.0, r"\(\)")],
    )
    def test_a_function_with_a_wrong_result_is_named(self, result, shape):
        def broken(v):
            return result

        operator = as_operator(broken, n=N)
        with pytest.raises(slq.RunError, match=rf"a vector of shape \({N},\) must .* got {shape} from .*broken"):
            operator.matmat(np.ones((N, 2)))

    @pytest.mark.parametrize(
        ("result", "shape"),
        [(np.ones((N, 3)), rf"\({N}, 3\)"), (np.ones(N), rf"\({N},\)"), (None, r"\(\) from a None")],
    )
    def test_a_block_product_of_the_wrong_shape_is_named(self, result, shape):
        operator = as_operator(lambda X: result, n=N, block=True)
        with pytest.raises(slq.RunError, match=rf"a block of shape \({N}, 2\) must have that shape, got {shape}"):
            slq.lanczos(operator, block_of(N, 2), 3)

    def test_a_complex_product_is_not_cut_to_its_real_part(self):
        operator = as_operator(lambda v: np.fft.ifft(np.fft.fft(v)), n=N)
        with pytest.raises(slq.RunError, match=r"came out complex.* return the real part"):
            slq.lanczos(operator, np.ones(N), 3)


def test_installed_packages_are_searched_for_adapters_once(monkeypatch):
    found = []
    monkeypatch.setattr(slq._operators._operators, "entry_points", lambda group: found.append(group) or [])
    slq._operators._operators._converter.cache_clear()
    for size in (2, 3, 4):
        slq.as_operator(np.eye(size))
    slq._operators._operators._converter.cache_clear()
    assert found == ["slq.adapters"]
