"""Pictures of a history: what is drawn is what the records hold, and a page of them needs nothing from outside."""

import re

import numpy as np
import pytest

import slq
from slq._command._page import page

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def history():
    found = slq.History(metadata={"classes": 3})
    for step in range(0, 50, 10):
        operator, _ = slq.gallery.spiked(200, outliers=(20.0 + step, 10.0))
        found = found.append(
            step,
            None if step == 20 else slq.spectrum(operator, probes=2, steps=30, rng=0),
            arrays={"gradient_nodes": [0.0, 20.0 + step], "gradient_energy": [0.25, 0.75]},
            note="the loss is <nan>" if step == 20 else "",
            loss=1.0 / (1 + step),
            lr=0.1,
            gradient_concentration=0.5,
            subspace_overlap=0.9,
        )
    return found


@pytest.fixture(autouse=True)
def no_figures_left():
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_a_heat_map_counts_eigenvalues_and_leaves_nothing_white_as_none(history):
    axes = slq.plot.evolution(history)
    mesh = axes.collections[0]
    counts = mesh.get_array()

    assert counts.shape == (200, 5)
    assert counts.mask[:, 2].all()  # no spectrum there
    # Per 1/100 of the axis, in 200 cells: half the sum is the number of eigenvalues that are no outliers.
    assert counts[:, 0].sum() / 2 == pytest.approx(198, rel=0.05)
    assert axes.get_xlabel() == "training step"
    assert axes.get_xlim() == (-5, 45)


def test_edges_and_outliers_lie_on_the_heat_map(history):
    drawn = lines(slq.plot.evolution(history, colorbar=False))

    largest = drawn["largest and smallest"]
    assert largest[:, 0].tolist() == [0, 10, 20, 30, 40]
    assert largest[[0, 1, 3, 4], 1] == pytest.approx([20, 30, 50, 60])
    assert {(0.0, 20.0), (40.0, 10.0)} <= {tuple(row) for row in drawn["outliers"].round(6)}


def test_recorded_eigenvalues_are_dots_where_the_heat_map_is_blank():
    operator, _ = slq.gallery.spiked(3000, outliers=(20.0, 10.0))
    spectrum = slq.spectrum(operator, probes=1, steps=30, rng=0)
    inside = float(spectrum.quantile(0.5).value[0])
    history = slq.History().append(0, spectrum, arrays={"eigenvalues": [15.0, inside, np.nan]})
    dots = lines(slq.plot.evolution(history))["outliers"][:, 1]
    assert 15.0 in dots
    assert inside not in dots


def test_steps_far_apart_are_drawn_on_a_logarithmic_axis(history):
    uneven = slq.History()
    for step in (0, 1, 10, 1000):
        uneven = uneven.append(step, history.spectra[0])

    assert slq.plot.evolution(uneven).get_xscale() == "asinh"
    assert slq.plot.evolution(uneven, step_scale="linear").get_xscale() == "linear"


def test_ridge_lines_stand_behind_each_other_by_step(history):
    axes = slq.plot.evolution(history, kind="ridge")
    curves = [line.get_ydata() for line in axes.lines if line.get_gid() == "slq spectrum"]

    assert len(curves) == 4
    assert [curve.min() for curve in curves] == pytest.approx([0, 1, 2, 3])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "10", "30", "40"]


def test_outliers_are_drawn_over_the_steps_with_the_limit_of_stability(history):
    drawn = lines(slq.plot.outliers(history))

    assert drawn["2 / lr = 20"][:, 1].tolist() == [20] * 5
    assert drawn["outliers (2 at last, 3 classes)"].shape == (8, 2)


def test_overlaps_are_drawn_over_the_steps_and_energy_at_one(history):
    drawn = lines(slq.plot.overlap(history))
    assert drawn["gradient in the top eigenspace"][:, 1].tolist() == [0.5] * 5

    energy = lines(slq.plot.overlap(history, step=40))["energy of the gradient"]
    assert energy[1:3].tolist() == [[60.0, 0.75], [0.0, 1.0]]


@pytest.mark.parametrize("width", [5.0, 3.5])
@pytest.mark.parametrize("name", ["evolution", "outliers", "overlap"])
def test_a_legend_stays_within_its_figure(history, name, width):
    figure, axes = pyplot.subplots(figsize=(width, 2.8), layout="constrained")
    getattr(slq.plot, name)(history, axes)
    figure.canvas.draw()
    extent = axes.get_legend().get_window_extent()

    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width + 1  # pixels are whole


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda h: slq.plot.evolution(h.spectra[0]), TypeError, "draws a History, got Spectrum"),
        (lambda h: slq.plot.evolution(slq.History()), ValueError, "has no records"),
        (lambda h: slq.plot.evolution(h, kind="pie"), ValueError, '`kind` must be "heat" or "ridge"'),
        (lambda h: slq.plot.evolution(h, step_scale="sqrt"), ValueError, "`step_scale` must be"),
        (lambda h: slq.plot.overlap(slq.History().append(0)), ValueError, "holds none of gradient_concentration"),
        (lambda h: slq.plot.overlap(h, step=7), ValueError, "`step` must be a recorded one"),
    ],
    ids=["type", "empty", "kind", "scale", "none", "step"],
)
def test_what_cannot_be_drawn_is_refused(history, call, error, message):
    with pytest.raises(error, match=message):
        call(history)


def test_a_page_is_complete_in_itself_and_escapes_what_it_prints(history):
    text = page(history, 'run <script>alert("x")</script>')

    assert text.count('src="data:image/png;base64,') == 4
    assert not re.search(r'(?:src|href)="(?!data:)|url\(|@import|<script', text)
    assert "&lt;script&gt;" in text
    assert "step 20: the loss is &lt;nan&gt;" in text
    assert text.count("<tr>") == 1 + len(history)


def test_a_history_without_any_spectrum_has_a_page_too():
    text = page(slq.History().append(0, loss=np.nan, note="the loss is nan"), "run")

    assert "step 0: the loss is nan" in text


def test_recorded_eigenvalues_are_lines_among_the_outliers(history):
    longer = slq.History().append(0, history.spectra[0], arrays={"eigenvalues": [20.0, 10.0]})
    longer = longer.append(10, history.spectra[1], arrays={"eigenvalues": [30.0, 10.0]})
    axes = slq.plot.outliers(longer)
    drawn = [line for line in axes.lines if line.get_label() == "top eigenvalues"]
    assert [line.get_ydata().tolist() for line in drawn] == [[20.0, 30.0]]  # the first alone is named
    assert any(line.get_ydata().tolist() == [10.0, 10.0] for line in axes.lines)


def test_a_random_direction_has_its_share_where_the_eigenvectors_are_counted(history):
    s = history.spectra[0]
    found = slq.History(metadata={"classes": 3}).append(
        0, s, arrays={"eigenvalues": [20.0, 10.0]}, subspace_overlap=0.9
    )
    drawn = lines(slq.plot.overlap(found))
    assert drawn["random direction"][0, 1] < 0.05


def test_the_energy_of_a_record_without_a_spectrum_is_drawn_alone_on_a_linear_axis(history):
    operator, _ = slq.gallery.semicircle(100)
    s = slq.spectrum(operator, probes=2, steps=20, rng=0)
    energy = {"gradient_nodes": [-1.0, 1.0], "gradient_energy": [0.25, 0.75]}
    found = slq.History().append(0, s, arrays=energy).append(5, arrays=energy)
    axes = slq.plot.overlap(found, step=5)
    assert list(lines(axes)) == ["energy of the gradient"]
    assert axes.get_xscale() == "linear"


def test_a_page_leaves_the_middle_of_many_records_out():
    found = slq.History()
    for step in range(120):
        found = found.append(step, loss=float(step))
    text = page(found, "long")
    shown = {int(step) for step in re.findall(r"<tr><td>(\d+)</td>", text)}
    gone = int(re.search(r">(\d+) more<", text)[1])
    assert len(shown) + gone == 120
    assert {0, 119} <= shown


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: slq.plot.evolution(slq.History()), "`history` has no records"),
        (lambda: slq.plot.overlap(slq.History().append(0, loss=1.0)), "`history` holds none of"),
        (
            lambda: slq.plot.overlap(slq.History().append(0, gradient_concentration=0.5), step_scale="none"),
            "`step_scale` must",
        ),
    ],
    ids=["empty", "nothing to draw", "scale"],
)
def test_what_cannot_be_drawn_is_told(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
