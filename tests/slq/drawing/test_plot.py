"""Drawings show what the spectrum says: asserted on the artists' data, not on pixels."""

import builtins
import sys
from itertools import pairwise

import numpy as np
import pytest

import slq
from slq import gallery

matplotlib = pytest.importorskip("matplotlib")
pyplot = pytest.importorskip("matplotlib.pyplot")

COLUMN = (3.3, 2.4)
KINDS = ["density", "cdf", "outliers"]


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    """Draw on no screen, notice whoever shows or saves, and close all figures."""
    pyplot.switch_backend("Agg")

    def refuse(*args, **kwargs):
        pytest.fail("a drawing must neither be shown nor saved")

    monkeypatch.setattr(pyplot, "show", refuse)
    monkeypatch.setattr(pyplot, "savefig", refuse)
    yield
    pyplot.close("all")


def spectrum_of(eigenvalues, **options):
    operator, _ = gallery.from_eigenvalues(eigenvalues)
    return slq.spectrum(operator, **({"rng": 0, "probes": 3, "steps": 40} | options))


@pytest.fixture(scope="module")
def smooth():
    return slq.spectrum(gallery.semicircle(2000)[0], rng=0)


@pytest.fixture(scope="module")
def spiked():
    operator, law = gallery.spiked(2000)
    return slq.spectrum(operator, probes=3, steps=40, rng=0), law.eigenvalues()


@pytest.fixture(scope="module")
def heavy():
    """A bulk near zero and outliers a thousand times larger: drawn on the asinh scale."""
    bulk = 1e-3 * np.random.default_rng(0).standard_normal(1990)
    exact = np.sort(np.concatenate([bulk, [-0.5, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0]]))
    return spectrum_of(exact), exact


def axes(inches=(5.0, 3.2)):
    return pyplot.figure(figsize=inches, layout="constrained").add_subplot()


def curves(ax):
    return [line for line in ax.lines if line.get_gid() == "slq spectrum"]


def labelled(ax, text):
    """Find the one artist whose legend entry holds a text."""
    found = [h for h, label in zip(*ax.get_legend_handles_labels(), strict=True) if text in label]
    assert len(found) == 1, (text, ax.get_legend_handles_labels()[1])
    return found[0]


def bin_width(ax, forward):
    y = forward(np.asarray(ax.get_xlim()))
    return (y[1] - y[0]) / 100


def outline(band, x):
    """Read a filled band: its lowest and highest value at each x."""
    vertices = band.get_paths()[0].vertices
    at = [vertices[vertices[:, 0] == point, 1] for point in x]
    return np.array([v.min() for v in at]), np.array([v.max() for v in at])


# -- density ----------------------------------------------------------------------------------------------------


def test_the_curve_and_its_band_are_those_of_the_density(smooth):
    ax = slq.plot.density(smooth)

    (line,) = curves(ax)
    d = smooth.density(line.get_xdata())
    low, high = outline(labelled(ax, "95 % band"), d.x)
    np.testing.assert_allclose(line.get_ydata(), d.value)
    np.testing.assert_allclose(low, d.low)
    np.testing.assert_allclose(high, d.high)


def test_a_smooth_density_is_drawn_on_linear_axes_from_zero(smooth):
    ax = slq.plot.density(smooth)

    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylim()[0]) == ("linear", "linear", 0.0)
    assert ax.get_ylim()[1] > curves(ax)[0].get_ydata().max()


def test_outliers_are_stems_as_high_as_their_bar_in_the_histogram(spiked):
    spectrum, exact = spiked
    ax = slq.plot.density(spectrum, exact=exact)

    heads = labelled(ax, "10 outliers")
    np.testing.assert_array_equal(heads.get_xdata(), spectrum.outliers.values)
    np.testing.assert_allclose(heads.get_ydata(), 1 / (2000 * bin_width(ax, np.asarray)))
    bars = labelled(ax, "exact").get_data()
    # Computed values lie a rounding beside the exact ones, which may lie on an edge of the histogram.
    nearest = exact[np.abs(exact[:, None] - spectrum.outliers.values).argmin(axis=0)]
    np.testing.assert_allclose(nearest, spectrum.outliers.values, rtol=1e-6)
    at = np.searchsorted(bars.edges, nearest, side="right") - 1
    np.testing.assert_allclose(bars.values[at], heads.get_ydata())


def test_the_exact_histogram_has_mass_one_in_the_coordinate_of_the_axis(heavy):
    spectrum, exact = heavy
    ax = slq.plot.density(spectrum, exact=exact)

    bars = labelled(ax, "exact").get_data()
    widths = np.diff(spectrum.coordinate().forward(bars.edges))
    assert np.sum((bars.values * widths)[bars.values > bars.baseline]) == pytest.approx(1.0)


def test_heights_are_logarithmic_where_a_stem_would_be_invisible(spiked):
    ax = slq.plot.density(spiked[0])

    one = 1 / (2000 * bin_width(ax, np.asarray))
    assert ax.get_yscale() == "log"
    assert 0.2 * one < ax.get_ylim()[0] < one


def test_a_far_outlier_gives_an_asinh_axis_whose_data_are_eigenvalues(heavy):
    spectrum, _ = heavy
    ax = slq.plot.density(spectrum)

    assert ax.get_xscale() == "asinh"
    assert ax.xaxis.get_transform().linear_width == spectrum.coordinate().unit
    assert ax.get_xlim()[0] < -0.5 < 3.0 < ax.get_xlim()[1]
    assert "asinh(λ/s)" in ax.get_ylabel()
    assert "s =" in ax.get_xlabel()


def test_the_scale_can_be_chosen(heavy):
    assert slq.plot.density(heavy[0], scale="linear").get_xscale() == "linear"
    assert slq.plot.cdf(heavy[0], scale="linear").get_xscale() == "linear"


def test_an_asinh_axis_has_its_ticks_at_zero_and_powers_of_ten(heavy):
    ax = slq.plot.density(heavy[0])

    ticks = ax.get_xticks()
    powers = np.log10(np.abs(ticks[ticks != 0]))
    assert 0.0 in ticks
    assert len(powers) >= 3
    np.testing.assert_allclose(powers, np.round(powers), atol=1e-9)


def test_the_zone_that_is_not_resolved_is_shaded_on_an_asinh_axis_only(heavy, smooth):
    ax = slq.plot.density(heavy[0])

    shade = labelled(ax, "not resolved")
    spacing = heavy[0].resolution(0.0)[0]
    np.testing.assert_allclose([shade.get_x(), shade.get_width()], [-spacing, 2 * spacing])
    assert "not resolved" not in slq.plot.density(smooth).get_legend_handles_labels()[1]


def test_a_gap_in_the_spectrum_is_not_called_unresolved():
    ax = slq.plot.density(slq.spectrum(np.ones((40, 40)), rng=0), scale="asinh")

    assert "not resolved" not in ax.get_legend_handles_labels()[1]


def test_a_multiplicity_above_one_is_written_at_its_stem():
    exact = np.concatenate([np.linspace(-1, 1, 500), [4.0, 4.0, 6.0]])
    spectrum = spectrum_of(exact, probes=4, steps=24)
    assert spectrum.outliers.multiplicities.tolist() == pytest.approx([1.0, 2.0])

    ax = slq.plot.density(spectrum)

    (text,) = ax.texts
    assert (text.get_text(), text.xy[0]) == ("×2", pytest.approx(4.0))


def test_a_multiplicity_that_is_an_estimate_is_marked_as_such():
    ax = slq.plot.density(slq.spectrum(np.eye(50), rng=0))

    assert [text.get_text() for text in ax.texts] == ["≈×50"]


# -- several on the same axes -----------------------------------------------------------------------------------


def test_a_second_spectrum_takes_the_next_colour_and_widens_the_axis(smooth):
    ax = axes()

    slq.plot.density(smooth, ax, label="first")
    slq.plot.density(smooth.shifted(1.0), ax, label="second")

    first, second = curves(ax)
    assert first.get_color() != second.get_color()
    assert (first.get_label(), second.get_label()) == ("first", "second")
    assert ax.get_xlim()[0] < -1.0 < 2.0 < ax.get_xlim()[1]
    assert sum("band" in label for label in ax.get_legend_handles_labels()[1]) == 1


def test_a_second_spectrum_is_drawn_per_unit_of_the_first_ones_axis(heavy, smooth):
    ax = axes()
    slq.plot.density(heavy[0], ax)

    slq.plot.density(smooth, ax)

    line = curves(ax)[1]
    y = heavy[0].coordinate().forward(line.get_xdata())
    assert ax.get_xscale() == "asinh"
    assert np.trapezoid(line.get_ydata(), y) == pytest.approx(1.0, abs=0.02)


def test_a_later_spectrum_may_turn_the_heights_logarithmic(smooth, spiked):
    ax = axes()
    slq.plot.density(smooth, ax)

    slq.plot.density(spiked[0], ax)
    slq.plot.density(smooth, ax)

    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] > 0


# -- distribution function --------------------------------------------------------------------------------------


def test_the_distribution_function_is_the_spectrums_with_its_band(heavy):
    spectrum, _ = heavy
    ax = slq.plot.cdf(spectrum)

    (line,) = curves(ax)
    band = spectrum.cdf(line.get_xdata())
    low, high = outline(labelled(ax, "95 % band"), band.x)
    np.testing.assert_array_equal(line.get_ydata(), band.value)
    np.testing.assert_allclose(low, band.low)
    np.testing.assert_allclose(high, band.high)
    assert (line.get_ydata()[0], line.get_ydata()[-1]) == (0.0, 1.0)


def test_the_distribution_function_jumps_at_outliers(spiked):
    spectrum, _ = spiked
    x = curves(slq.plot.cdf(spectrum))[0].get_xdata()

    assert np.isin(spectrum.outliers.values, x).all()
    assert np.isin(np.nextafter(spectrum.outliers.values, -np.inf), x).all()


def test_the_exact_distribution_function_steps_at_every_eigenvalue(spiked):
    spectrum, exact = spiked
    line = labelled(slq.plot.cdf(spectrum, exact=exact[::-1]), "exact")

    np.testing.assert_array_equal(line.get_xdata()[1:-1], np.sort(exact))
    np.testing.assert_allclose(line.get_ydata()[[0, 1, -2, -1]], [0, 1 / 2000, 1, 1])
    assert line.get_drawstyle() == "steps-post"


# -- outliers ---------------------------------------------------------------------------------------------------


def test_outliers_have_their_multiplicity_and_their_residual(spiked):
    spectrum, _ = spiked
    ax = slq.plot.outliers(spectrum)

    (line,) = curves(ax)
    found = spectrum.outliers
    np.testing.assert_array_equal(line.get_xdata(), found.values)
    np.testing.assert_array_equal(line.get_ydata(), found.multiplicities)
    bars = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([s[1, 0] - s[0, 0] for s in bars], 2 * found.residuals, atol=1e-14)


def test_all_other_eigenvalues_are_a_shaded_stretch(spiked):
    shade = labelled(slq.plot.outliers(spiked[0]), "all others")

    assert -1.01 < shade.get_x() < -0.9
    assert 0.9 < shade.get_x() + shade.get_width() < 1.01


def test_an_estimated_multiplicity_has_a_hollow_marker():
    spectrum = slq.spectrum(np.eye(50), rng=0)
    assert not spectrum.outliers.exact.any()

    ax = slq.plot.outliers(spectrum)

    assert [len(line.get_xdata()) for line in ax.lines if line.get_color() == "w"] == [1]


def test_no_outlier_is_said_in_words(smooth):
    ax = slq.plot.outliers(smooth)

    assert [text.get_text() for text in ax.texts] == ["none stands apart"]
    assert ax.get_legend() is None


# -- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_axes_given_are_drawn_on_and_returned(kind, smooth):
    ax = axes()

    assert getattr(slq.plot, kind)(smooth, ax) is ax
    assert pyplot.get_fignums() == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_without_axes_a_new_figure_is_made(kind, smooth):
    first, second = (getattr(slq.plot, kind)(smooth) for _ in range(2))

    assert first.figure is not second.figure


@pytest.mark.parametrize("kind", KINDS)
def test_style_reaches_the_curve_and_a_colour_everything(kind, spiked):
    ax = getattr(slq.plot, kind)(spiked[0], color="k", linewidth=3.0, label="mine")

    (line,) = curves(ax)
    assert (line.get_color(), line.get_linewidth()) == ("k", 3.0)
    assert "mine" in ax.get_legend_handles_labels()[1]


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_title_and_the_axes_are_labelled(kind, smooth):
    ax = getattr(slq.plot, kind)(smooth)

    assert ax.get_title() == ""
    assert ax.get_xlabel().startswith("eigenvalue λ")
    assert ax.get_ylabel()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_off_and_no_ticks_overlap_at_column_width(kind, heavy):
    ax = getattr(slq.plot, kind)(heavy[0], axes(COLUMN))

    ax.figure.draw_without_rendering()
    page, renderer = ax.figure.bbox, ax.figure.canvas.get_renderer()
    for label in (ax.xaxis.label, ax.yaxis.label):
        box = label.get_window_extent(renderer)
        assert min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1) >= 0
    shown = [t for t in ax.get_xticklabels() if t.get_text()]
    boxes = sorted((t.get_window_extent(renderer) for t in shown), key=lambda box: box.x0)
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(1),
        np.eye(30),
        np.zeros((20, 20)),
        np.ones((40, 40)),
        1e-150 * np.diag(np.arange(20.0)),
        1e150 * np.diag(np.linspace(-1, 1, 60) ** 3),
        -np.diag(10.0 ** np.linspace(-6, 3, 200)),
    ],
    ids=["n = 1", "identity", "zero", "rank one", "tiny", "huge", "negative"],
)
def test_odd_matrices_can_be_drawn(kind, matrix):
    ax = getattr(slq.plot, kind)(slq.spectrum(matrix, probes=2, steps=20, rng=0))

    ax.figure.draw_without_rendering()
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
    assert ax.get_xlim()[0] < ax.get_xlim()[1]


def test_a_spectrum_draws_itself(smooth):
    ax = axes()

    assert smooth.plot(ax, color="k") is ax
    assert curves(ax)[0].get_color() == "k"


def test_without_matplotlib_one_line_says_how_to_get_it(smooth, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name=name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"^`slq.plot` needs matplotlib: python -m pip install 'slq\[plot\]'$"):
        slq.plot.density(smooth)


def test_a_figure_in_place_of_axes_is_pointed_out(smooth):
    with pytest.raises(TypeError, match=r"`ax` must be matplotlib axes, got Figure"):
        slq.plot.density(smooth, pyplot.figure())


@pytest.mark.parametrize("kind", ["gaussian", "kpm", "haydock", "lanczos-bins", "log"])
def test_every_form_of_the_density_can_be_drawn_over_exact_eigenvalues(kind):
    operator, law = slq.gallery.spiked(500)
    s = slq.spectrum(operator, probes=2, steps=30, rng=0)
    axes = slq.plot.density(s, kind=kind, exact=law.values)
    curve = s.density(kind=kind) if kind in ("kpm", "haydock", "log") else s.density(kind=kind, scale=s.coordinate())
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_ydata(), np.maximum(curve.value, 0), atol=1e-3 * curve.value.max())
    assert axes.get_xscale() == (
        "log" if kind == "log" else "linear" if kind in ("kpm", "haydock") else s.coordinate().scale
    )
    assert not [line for line in axes.lines if line.get_marker() == "o"]
