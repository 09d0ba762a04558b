"""Figures for any number of classes and images, and for any class name."""
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from image_classifier.core import DataError
from image_classifier.metrics import plot_confusion, plot_history, plot_images, plot_message, plot_mistakes, plot_reliability

AWKWARD = ["$5 or $10", "a\nb", "\x1b[31mred", "\u65e5\u672c", "$", "", "x" * 300, "cat\u202egnp"]


def rendered(figure):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png, _ = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    return png


def boxes(labels, figure):
    figure.draw_without_rendering()
    return [label.get_window_extent() for label in labels]


@pytest.mark.parametrize("k", [1, 2, 5, 10, 20, 21, 50, 100])
@pytest.mark.parametrize("normalize", [False, True])
def test_class_names_of_a_confusion_matrix_do_not_overlap(k, normalize):
    table = np.eye(k, dtype=int) * 90 + 1
    figure = plot_confusion(table, [f"aquarium_fish_{i}" for i in range(k)], normalize)
    for labels, low, high in [(figure.axes[0].get_xticklabels(), "x0", "x1"), (figure.axes[0].get_yticklabels(), "y0", "y1")]:
        spans = sorted((getattr(box, low), getattr(box, high)) for box in boxes(labels, figure))
        assert all(after[0] > before[1] - 1 for before, after in zip(spans[:-1], spans[1:], strict=True))  # by a pixel at most
        assert all(0 <= span[0] and span[1] <= max(figure.bbox.width, figure.bbox.height) for span in spans)
    assert len(figure.axes[0].texts) == (k * k if k <= 20 else 0)


def test_a_thousand_classes_can_be_drawn():
    figure = plot_confusion(np.eye(1000, dtype=int), [str(i) for i in range(1000)])
    assert len(figure.axes[0].get_xticklabels()) == 100 and figure.bbox.width < 2000


def test_an_absent_class_and_an_empty_table_can_be_drawn():
    rendered(plot_confusion(np.array([[3, 1], [0, 0]]), ["a", "b"], normalize=True))
    rendered(plot_confusion(np.zeros((3, 3), int), "abc"))


def test_class_names_are_drawn_as_text_never_as_formulas_or_control_characters():
    k = len(AWKWARD)
    figure = plot_confusion(np.eye(k, dtype=int), AWKWARD)
    rendered(figure)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown[0] == "$5 or $10" and all(text.isprintable() for text in shown) and max(map(len, shown)) < 40
    images = np.zeros((k, 1, 8, 8), np.uint8)
    targets = np.roll(np.arange(k), 1)
    evaluation = SimpleNamespace(probabilities=np.eye(k), predicted=np.arange(k), targets=targets, classes=AWKWARD)
    shown = plot_mistakes(SimpleNamespace(images=images, ids=[f"{name}.png" for name in AWKWARD]), evaluation)
    rendered(shown)
    assert all(axes.texts[0].get_text().isprintable() for axes in shown.axes)


def test_the_legend_of_a_reliability_diagram_covers_no_error_bar():
    "For any model: it lies outside of both plots."
    for scale in (0.2, 1, 5):
        rng = np.random.default_rng(0)
        logits = scale * rng.normal(0, 2, (400, 5))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        figure = plot_reliability(p, rng.integers(0, 5, 400))
        figure.draw_without_rendering()
        [legend] = figure.legends
        assert not any(legend.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes) and not any(axes.get_legend() for axes in figure.axes)


def test_nothing_of_a_confusion_matrix_is_cut_off():
    for k in (2, 10, 30):
        figure = plot_confusion(np.eye(k, dtype=int), [f"automobile {i}" for i in range(k)])
        figure.draw_without_rendering()
        axes = figure.axes[0]
        for box in (axes.title.get_window_extent(), axes.xaxis.label.get_window_extent(), axes.yaxis.label.get_window_extent()):
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, (k, box)


def test_a_gallery_names_the_files():
    images = np.zeros((2, 1, 8, 8), np.uint8)
    figure = plot_images(images, names=["dog/1.png", "x" * 60 + "/2.png"])
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["dog/1.png", "…" + "x" * 17 + "/2.png"]


def epoch(number, loss):
    return SimpleNamespace(epoch=number, train_loss=loss, valid_loss=loss, train_accuracy=0.5, valid_accuracy=0.5)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 0.5], [1.0, float("nan"), 0.5], [float("nan")], list(range(300))])
def test_a_history_of_any_length_can_be_drawn(losses):
    rendered(plot_history([epoch(i, loss) for i, loss in enumerate(losses, 1)]))


@pytest.mark.parametrize("n, k", [(0, 3), (1, 3), (2, 2), (50, 1), (400, 5)])
def test_calibration_of_any_number_of_images_can_be_drawn(n, k):
    rng = np.random.default_rng(0)
    rendered(plot_reliability(rng.dirichlet(np.ones(k), n), rng.integers(0, k, n)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_drawn_with_unchanged_pixels(channels):
    images = np.random.default_rng(0).integers(0, 256, (3, channels, 5, 5), dtype=np.uint8)
    figure = plot_images(images, ["a", "b", "c"], columns=2)
    rendered(figure)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    shown = figure.axes[0].images[0].get_array()
    assert np.array_equal(shown, images[0, 0] if channels == 1 else images[0].transpose(1, 2, 0))


def test_no_images_give_a_figure_with_a_message():
    assert plot_images(np.zeros((0, 3, 8, 8), np.uint8)).texts[0].get_text() == "no images"
    rendered(plot_message("x" * 1000))


@pytest.mark.parametrize("call", [
    lambda: plot_images(np.zeros((2, 2, 4, 4), np.uint8)), lambda: plot_images(np.zeros((2, 3, 4, 4))),
    lambda: plot_confusion(np.zeros((2, 3)), "ab"), lambda: plot_confusion(np.eye(2), "abc"),
])
def test_invalid_input_raises_an_error_of_one_line(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_figures_need_neither_pyplot_nor_torch_and_keep_the_user_settings():
    code = ("import sys, matplotlib, numpy as np; keys = ('font.size', 'axes.grid', 'text.parse_math'); "
            "before = [matplotlib.rcParams[key] for key in keys]; from image_classifier.metrics.plots import plot_confusion; "
            "plot_confusion(np.eye(2, dtype=int), 'ab')._repr_png_(); assert 'matplotlib.pyplot' not in sys.modules; "
            "assert 'torch' not in sys.modules; assert before == [matplotlib.rcParams[key] for key in keys]")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_figure_gives_the_same_bytes():
    assert rendered(plot_confusion(np.eye(3, dtype=int), "abc")) == rendered(plot_confusion(np.eye(3, dtype=int), "abc"))


@pytest.mark.parametrize("settings", [
    {"axes.formatter.use_locale": True, "axes.formatter.limits": (0, 0), "axes.formatter.useoffset": False},
    {"axes.prop_cycle": "cycler('color', ['w'])", "text.color": "white", "xtick.color": "white", "axes.edgecolor": "white"},
    {"figure.dpi": 9, "savefig.format": "svg", "savefig.bbox": "tight", "savefig.transparent": True, "text.usetex": True},
    {"lines.marker": "x", "axes.xmargin": 0.4, "axes.spines.left": False, "image.cmap": "jet", "image.interpolation": "none"},
], ids=["numbers", "colors", "files", "shapes"])
def test_figures_do_not_depend_on_the_settings_of_the_user(settings):
    import matplotlib
    def drawn():
        course = [SimpleNamespace(epoch=i, train_loss=1 / i, valid_loss=1 / i, train_accuracy=0.5, valid_accuracy=0.5) for i in (1, 2)]
        probabilities = np.array([[0.7, 0.3], [0.4, 0.6], [0.8, 0.2]])
        return [rendered(figure) for figure in (plot_confusion(np.eye(2, dtype=int), "ab", normalize=True), plot_history(course),
                plot_reliability(probabilities, [0, 1, 1]), plot_images(np.zeros((2, 1, 4, 4), np.uint8), ["a", "b"]), plot_message("none"))]
    expected = drawn()
    with matplotlib.rc_context(settings):
        assert drawn() == expected
