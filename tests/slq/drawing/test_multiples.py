"""Small multiples: the data on the artists, common axes, names, and what a user may ask of them."""

import numpy as np
import pytest

import slq

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def closed_figures():
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def spectra():
    rng = np.random.default_rng(0)
    blocks = {f"layers.{i}.weight": np.diag(np.r_[rng.standard_normal(100 * i + 50) / 50, 3.0 + i]) for i in range(6)}
    return slq.spectra(blocks, rng=0, probes=2, steps=40)


def curve(axes):
    return next(line for line in axes.lines if line.get_gid() == "slq spectrum")


def test_every_spectrum_has_a_panel_in_the_order_given(spectra):
    axes = slq.plot.multiples(spectra)

    assert list(axes) == list(spectra)
    assert [a.get_title(loc="left") for a in axes.values()] == list(spectra)
    assert [a.texts[0].get_text() for a in axes.values()] == [str(s.n) for s in spectra.values()]
    assert len({a.figure for a in axes.values()}) == 1


def test_the_axes_are_common(spectra):
    axes = list(slq.plot.multiples(spectra).values())

    assert len({a.get_xlim() for a in axes}) == len({a.get_ylim() for a in axes}) == 1
    assert {a.get_xscale() for a in axes} == {"asinh"}
    assert {a.get_yscale() for a in axes} == {"log"}
    for a, s in zip(axes, spectra.values(), strict=True):
        assert a.get_xlim()[0] < s.nodes.min()
        assert a.get_xlim()[1] > s.nodes.max()


@pytest.mark.parametrize("scale", ["linear", "asinh"])
def test_the_area_under_a_curve_and_its_stems_is_the_number_of_eigenvalues(scale, spectra):
    for name, axes in slq.plot.multiples(spectra, scale=scale).items():
        x, y = curve(axes).get_data()
        bins = axes.xaxis.get_transform().transform(x)
        bins = 100 * (bins - bins[0]) / (bins[-1] - bins[0])
        area = np.trapezoid(y, bins) + spectra[name].outliers.multiplicities.sum()
        assert area == pytest.approx(spectra[name].n, rel=0.05)


@pytest.mark.parametrize("size", [1e-2, 1e-5, 1e-9])
def test_a_spectrum_narrower_than_a_point_is_still_seen(size):
    rng = np.random.default_rng(0)
    blocks = {"wide": np.diag(rng.standard_normal(300)), "narrow": np.diag(size * rng.standard_normal(200))}
    axes = slq.plot.multiples(slq.spectra(blocks, rng=0, probes=2, steps=15), scale="asinh")["narrow"]

    x, y = curve(axes).get_data()
    bins = axes.xaxis.get_transform().transform(x)
    assert np.trapezoid(y, 100 * (bins - bins[0]) / (bins[-1] - bins[0])) == pytest.approx(200, rel=0.15)


def test_a_simple_eigenvalue_is_a_stem_of_height_one(spectra):
    for i, axes in enumerate(slq.plot.multiples(spectra).values()):
        dots = next(line for line in axes.lines if line.get_marker() == "o")
        assert 3.0 + i == pytest.approx(dots.get_xdata()[0])
        assert dots.get_ydata()[0] == 1


def test_only_the_outer_panels_have_labels(spectra):
    axes = list(slq.plot.multiples(spectra, columns=4).values())

    left = [a.yaxis.get_tick_params()["labelleft"] for a in axes]
    bottom = [a.xaxis.get_tick_params()["labelbottom"] for a in axes]
    assert left == [True, False, False, False, True, False]
    assert bottom == [False, False, True, True, True, True]  # those with nothing below them


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (3, 3), (6, 4), (20, 4), pytest.param(50, 6, marks=pytest.mark.slow)]
)
def test_the_grid_fits_the_number_of_panels(count, columns, spectra):
    some = list(spectra.values())
    axes = slq.plot.multiples({f"b{i}": some[i % 6] for i in range(count)})

    grid = axes["b0"].get_gridspec()
    assert grid.ncols == columns
    assert grid.nrows == -(-count // columns)
    assert len(axes["b0"].figure.axes) == count


def test_long_names_keep_their_ends(spectra):
    name = "transformer.h.11.attention.output.projection"
    axes = slq.plot.multiples({name: spectra["layers.0.weight"]} | dict(spectra))[name]

    assert axes.get_title(loc="left") == "…output.projection"


def test_a_figure_a_style_and_a_number_of_columns_can_be_given(spectra):
    figure = pyplot.figure(figsize=(4, 6))
    axes = slq.plot.multiples(spectra, figure, columns=2, color="green", linewidth=3)

    assert all(a.figure is figure for a in axes.values())
    assert axes["layers.0.weight"].get_gridspec().ncols == 2
    line = curve(axes["layers.0.weight"])
    assert (line.get_color(), line.get_linewidth()) == ("green", 3)


def test_the_result_of_several_runs_draws_itself(spectra):
    assert list(spectra.plot(columns=3)) == list(spectra)


def test_it_draws_without_warnings_and_shows_nothing(spectra, monkeypatch):
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda *args, **options: shown.append(args))
    figure = next(iter(slq.plot.multiples(spectra).values())).figure
    figure.canvas.draw()

    assert shown == []
    drawn = np.asarray(figure.canvas.buffer_rgba())
    dark = np.any(drawn[:, :, :3] < 128, axis=2)
    for axes in figure.axes:
        box = axes.get_window_extent()
        rows = slice(int(drawn.shape[0] - box.y1), int(drawn.shape[0] - box.y0))
        assert dark[rows, int(box.x0) : int(box.x1)].any()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [(({},), ValueError, "`spectra` is empty"), (({}, 3), ValueError, "`spectra` is empty")],
)
def test_nothing_to_draw_is_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        slq.plot.multiples(*arguments)


def test_wrong_arguments_are_refused(spectra):
    with pytest.raises(ValueError, match="`columns` must be at least 1, got 0"):
        slq.plot.multiples(spectra, columns=0)
    with pytest.raises(TypeError, match="`figure` must be a matplotlib figure, got int"):
        slq.plot.multiples(spectra, 3)
