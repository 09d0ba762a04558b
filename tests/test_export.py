"An exported classifier answers as the original does, without torch, or it is not kept."
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")

from literate import ROOT
from PIL import Image

from image_classifier.cli import main
from image_classifier.config import Hyperparameters
from image_classifier.core import ArtifactError, check_manifest, ConfigError, MANIFEST, write_manifest
from image_classifier.data import load_data
from image_classifier.inference import Classifier, export_artifact, export_formats, exporting, int8, OnnxModel, openvino_model, pte_model, register_exporter, sign
from image_classifier.inference.export_formats import ExportedForm, EXPORTERS
from image_classifier.inference.onnx_model import onnx_metadata
from image_classifier.inference.signing import generate_keys
from image_classifier.models import build_model
from image_classifier.runs.ood import fit_detector
from image_classifier.training import fit


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def complaints(text):
    "The errors and warnings among the lines of stderr."
    return [line for line in text.splitlines() if not line.startswith("exporting to ")]


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def home(digits, tmp_path_factory):
    "A folder with an artifact that uses all that can be in one, not exported, and with the same one exported."
    place = tmp_path_factory.mktemp("exports")
    network = build_model("simple_cnn", channels=1, classes=10, size=8, seed=0)
    fit(network, digits, Hyperparameters(num_epochs=2))
    classifier = Classifier(network, digits.preprocess, digits.classes, None, 1.7, "flip", 0.5, fit_detector(network, digits)[0])
    classifier.save(place / "plain")
    export_artifact(classifier.save(place / "classifier"), "onnx", digits)
    return place


@pytest.fixture
def folder(home, tmp_path):
    "A copy of the artifact before its export, to be changed."
    return shutil.copytree(home / "plain", tmp_path / "classifier")


@pytest.fixture
def ready(home, monkeypatch):
    "Exports take the file that was made before, because tracing the network takes seconds; returns its bytes."
    data = (home / "classifier" / "model.onnx").read_bytes()
    monkeypatch.setattr(export_formats, "to_onnx", lambda classifier, notes: data)
    return data


# the same answers


def test_an_export_predicts_without_torch(home, digits, tmp_path):
    Image.fromarray(digits.test.images[3, 0]).save(tmp_path / "digit.png")
    code = ("import sys; from image_classifier.inference import OnnxModel; model = OnnxModel(sys.argv[1]); "
            "print(model.predict(sys.argv[2])); assert not {'torch', 'onnx', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(home / "classifier"), str(tmp_path / "digit.png")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(Classifier.load(home / "classifier").predict(tmp_path / "digit.png"))


def test_answers_flags_and_pixels_are_those_of_the_classifier(home, digits, tmp_path):
    classifier, exported = Classifier.load(home / "classifier"), OnnxModel(home / "classifier")
    turned = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    orientation = turned.getexif()
    orientation[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=orientation)
    gray16 = io.BytesIO()
    Image.fromarray(np.arange(0, 65536, 16, np.uint16).reshape(64, 64)).save(gray16, "png")
    images = [tmp_path / "turned.jpg", gray16.getvalue(), turned.convert("RGBA"), *digits.test.images[:, 0], *(255 - digits.test.images[:70, 0])]
    before, after = classifier.predict(images), exported.predict(images)
    assert [one.predicted_class for one in after] == [one.predicted_class for one in before]
    assert [one.out_of_distribution for one in after] == [one.out_of_distribution for one in before]
    assert {one.out_of_distribution for one in after} == {True, False}
    changes = [abs(one.all_probabilities[name] - two.all_probabilities[name]) for one, two in zip(before, after) for name in digits.classes]
    assert max(changes) < 1e-5 and exported.threshold == classifier.threshold


@pytest.mark.parametrize("batch", [1, 2, 7, 32, 64])
def test_a_batch_of_any_size_gives_the_same_rows(home, digits, batch):
    exported, images = OnnxModel(home / "classifier"), digits.test.images[:64]
    rows = exported.outputs(images)[0]
    assert np.abs(np.concatenate([exported.outputs(images[i:i + batch])[0] for i in range(0, 64, batch)]) - rows).max() < 1e-5


def test_the_file_is_one_and_says_what_it_was_made_from(home, digits):
    model = onnx.load(home / "classifier" / "model.onnx", load_external_data=False)
    assert not [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes == onnx_metadata(home / "plain") and json.loads(notes["classes"]) == list(digits.classes)
    assert set(check_manifest(home / "classifier")) == {*check_manifest(home / "plain"), "model.onnx", "exports.json"}
    assert [one.version for one in model.opset_import if not one.domain] == [18]


# broken exports


def edited(data, change):
    model = onnx.load_from_string(data)
    change(model.graph)
    return model.SerializeToString()


def permuted(graph):
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.shape in ((10, 256), (10,)):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 1, 0), tensor.name))


def two_classes_swapped(graph):
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        if values.shape in ((10, 256), (10,)):
            values[[3, 8]] = values[[8, 3]]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def normalized_twice(graph):
    last = next(node for node in graph.node if node.op_type == "Mul")
    first = next(node for node in graph.node if last.input[0] in node.output)
    for node in graph.node:
        node.input[:] = ["twice" if name == last.output[0] else name for name in node.input]
    place = list(graph.node).index(last) + 1
    graph.node.insert(place, onnx.helper.make_node("Mul", ["again", last.input[1]], ["twice"]))
    graph.node.insert(place, onnx.helper.make_node("Sub", [last.output[0], first.input[1]], ["again"]))


def not_normalized(graph):
    last = next(node for node in graph.node if node.op_type == "Mul")
    first = next(node for node in graph.node if last.input[0] in node.output)
    for node in graph.node:
        node.input[:] = [first.input[0] if name == last.output[0] else name for name in node.input]


def through(graph, name, *nodes):
    "Put nodes in front of an output; the first takes `before`, the last gives the output."
    for node in graph.node:
        node.output[:] = ["before" if one == name else one for one in node.output]
    graph.node.extend(nodes)


def frozen(graph):
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def frozen_inside(graph):
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([32, 10]), "shape"))
    through(graph, "probabilities", onnx.helper.make_node("Reshape", ["before", "shape"], ["probabilities"]))


def first_image_only(graph):
    for name, values in (("from", [0]), ("to", [1])):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    through(graph, "probabilities", onnx.helper.make_node("Slice", ["before", "from", "to"], ["one"]),
            onnx.helper.make_node("Shape", ["before"], ["all"]), onnx.helper.make_node("Expand", ["one", "all"], ["probabilities"]))


def without_softmax(graph):
    last = next(node for node in graph.node if node.op_type == "Softmax")
    last.op_type = "Identity"
    del last.attribute[:]


def not_finite(graph):
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.shape == (10,):
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32("nan"), tensor.name))


def other_features(graph):
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.01), "factor"))
    through(graph, "features", onnx.helper.make_node("Mul", ["before", "factor"], ["features"]))
    for node in list(graph.node)[:-1]:
        node.input[:] = ["before" if one == "features" else one for one in node.input]


BROKEN = {permuted: "answers differ", two_classes_swapped: "answers differ", normalized_twice: "answers differ", not_normalized: "answers differ",
          frozen: "the batch size is frozen at 1", frozen_inside: "cannot compute a batch of", first_image_only: "answers differ",
          without_softmax: "answers differ", not_finite: "non-finite probabilities", other_features: "the features differ"}


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change.__name__)
def test_a_broken_export_is_refused_and_nothing_is_kept(folder, digits, ready, monkeypatch, change):
    monkeypatch.setattr(export_formats, "to_onnx", lambda classifier, notes: edited(ready, change))
    before = content(folder)
    with pytest.raises(ArtifactError, match=BROKEN[change]):
        export_artifact(folder, "onnx", digits)
    assert content(folder) == before and [path.name for path in folder.parent.iterdir()] == ["classifier"]


def test_worst_images_are_named_in_one_line_with_exit_code_4(folder, ready, monkeypatch, capfd):
    monkeypatch.setattr(export_formats, "to_onnx", lambda classifier, notes: edited(ready, two_classes_swapped))
    assert main(["export", str(folder), "data=digits"]) == 4
    error = capfd.readouterr().err
    worst = error.partition("in batches of 32: ")[2]
    assert worst.count(" instead of ") == 3 and {"3", "8"} & set(worst.split()) and len(complaints(error)) == 1


def test_json_has_the_figures_of_each_form(folder, ready, capfd):
    assert main(["export", str(folder), "data=digits", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["classifier"] == str(folder) and [*answer["forms"]] == ["pytorch", "onnx"]
    assert answer["forms"]["onnx"]["file"] == "model.onnx" and answer["forms"]["onnx"]["accuracy"] == answer["forms"]["pytorch"]["accuracy"]


# 8-bit integers


@pytest.fixture(scope="module")
def small(home, digits, tmp_path_factory):
    "The export in 8-bit integers, with weights that no processor's sums overflow with: the same on all machines."
    return int8.quantize(home / "classifier" / "model.onnx", tmp_path_factory.mktemp("small") / "small.onnx", int8.Recipe(seven_bits=True), digits.train.images[:64])


@pytest.fixture(scope="module")
def many(digits):
    "Enough test images for a gate that a lost one passes."
    return replace(digits, test=digits.train)


@pytest.fixture
def chosen(small, ready, monkeypatch):
    "Return a function: the chosen way to quantize gives this file, which takes this share of the time of float32."
    def choose(data=None, share=0.5):
        def trial(model, job):
            (job.folder / "trial.onnx").write_bytes(data or small.read_bytes())
            return int8.Trial(1.0, 0.0, int8.Recipe(), job.folder / "trial.onnx", 145)
        monkeypatch.setattr(int8, "best_trial", trial)
        monkeypatch.setattr(int8, "time_forms", lambda *arguments: {"onnx": {1: 1.0}, "int8": {1: share}})
    return choose


def test_eight_bits_are_kept_if_as_accurate_and_faster(folder, digits, many, chosen):
    chosen()
    forms = export_artifact(folder, "int8", many)
    assert [form.name for form in forms] == ["pytorch", "onnx", "int8"] and {"model.onnx", "model.int8.onnx"} <= set(check_manifest(folder))
    assert "% of the test images as unlike the training images, float32 " in forms[2].note
    exported = OnnxModel(folder / "model.int8.onnx")
    assert exported.detector is not None and exported.threshold == 0.5 and "| `model.int8.onnx` |" in (folder / "README.md").read_text()
    same = [one.predicted_class == two.predicted_class for one, two in zip(*(model.predict([*digits.test.images[:, 0]]) for model in (exported, OnnxModel(folder))))]
    assert np.mean(same) > 0.97 and (folder / "model.int8.onnx").stat().st_size < 0.3 * (folder / "model.onnx").stat().st_size


def test_random_weights_in_eight_bits_are_refused_and_float32_is_kept(folder, small, chosen, capfd):
    rng = np.random.default_rng(0)

    def scramble(graph):
        for tensor in graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.int8 and values.size > 100:
                tensor.CopyFrom(onnx.numpy_helper.from_array(rng.integers(-127, 128, values.shape, np.int8), tensor.name))
    chosen(edited(small.read_bytes(), scramble))
    assert main(["export", str(folder), "data=digits", "--to", "int8"]) == 0 and not (folder / "model.int8.onnx").exists()  # no images to choose with
    run = folder.parent / "run"
    shutil.copytree(folder, run / "classifier")
    (run / "config.yaml").write_text("data: {name: digits}\n")
    (run / "metrics.json").write_text("{}")
    assert main(["export", str(run), "--to", "onnx,int8"]) == 4
    out, err = capfd.readouterr()
    assert "refused: less accurate" in out and "less accurate in 8-bit integers" in err and err.count(" instead of ") == 4
    assert len(complaints(err)) == 1
    assert (run / "classifier" / "model.onnx").exists() and not (run / "classifier" / "model.int8.onnx").exists()
    with pytest.raises(ArtifactError, match="less accurate in 8-bit integers"):
        Classifier.load(run).export(load_data("digits"), "int8")


@pytest.mark.parametrize("share", [0.96, 1.5])
def test_eight_bits_that_are_not_faster_are_not_kept_and_the_table_says_so(folder, many, chosen, share):
    chosen(share=share)
    form = export_artifact(folder, "int8", many)[2]
    assert form.file is None and form.error is None and f"not faster here, {share:.2f} of the time" in form.note
    assert "not faster here" in exporting.forms_table([form]) and not (folder / "model.int8.onnx").exists()
    assert "int8" not in json.loads((folder / "exports.json").read_text())["forms"]


def test_the_test_images_choose_nothing(home, digits, tmp_path):
    class Job:
        folder = tmp_path

        def split(self, name):
            return {"train": digits.train.select(range(64)), "valid": digits.valid.select(range(32))}[name]
    trial = int8.best_trial(home / "classifier" / "model.onnx", Job())
    assert trial.images == 32 and trial.accuracy > 0.5 and OnnxModel(trial.file).classes == list(digits.classes)


# other runtimes


def needs(form):
    "Skip a test where the extra of a form is not installed."
    module, extra = {"pte": ("executorch", "executorch"), "openvino": ("openvino", "openvino"), "openvino-int8": ("nncf", "openvino")}[form]
    if importlib.util.find_spec(module) is None:  # importing it here would start its telemetry, which our own import keeps out
        pytest.skip(f"the extra {extra} is not installed")


def model_of(form, file, classes):
    return {"pte": pte_model.PteModel, "openvino": openvino_model.OpenvinoModel}[form](file, classes)


FILES = {"pte": {"model.pte"}, "openvino": {"model.onnx", "model.openvino.xml", "model.openvino.bin"}}


@pytest.mark.parametrize("form", FILES)
def test_other_runtimes_answer_as_the_classifier_in_batches_of_any_size(home, folder, digits, ready, form):
    needs(form)
    made = export_artifact(folder, form, digits)[-1]
    assert set(check_manifest(folder)) == {*check_manifest(home / "plain"), "exports.json", *FILES[form]}
    model, expected = model_of(form, made.file, digits.classes), Classifier.load(folder).probabilities(digits.test.images[:32])
    for batch in (1, 2, 7, 32):
        rows = np.concatenate([model.outputs(digits.test.images[i:min(i + batch, 32)])[0] for i in range(0, 32, batch)])
        assert abs(rows - expected).max() < 1e-5
    stored, notes = json.loads((folder / "exports.json").read_text()), onnx_metadata(folder)
    assert stored["classifier"]["source"] == notes["source"] and stored["classifier"]["classes"] == list(digits.classes)
    assert stored["classifier"]["preprocess"] == json.loads(notes["preprocess"])
    assert stored["forms"][form]["bytes"] == sum((folder / name).stat().st_size for name in FILES[form] - {"model.onnx"})
    assert stored["forms"][form]["largest_batch"] == (32 if form == "pte" else None)
    assert all(name in (folder / "README.md").read_text() for name in FILES[form])


@pytest.mark.parametrize("form", FILES)
def test_another_runtime_that_answers_otherwise_is_refused_and_nothing_is_kept(folder, digits, ready, monkeypatch, form):
    needs(form)
    module, name = {"pte": (pte_model, "PteModel"), "openvino": (openvino_model, "OpenvinoModel")}[form]
    outputs = getattr(module, name).outputs
    monkeypatch.setattr(getattr(module, name), "outputs", lambda self, images: (np.roll(outputs(self, images)[0], 1, 1), outputs(self, images)[1]))
    before = content(folder)
    with pytest.raises(ArtifactError, match="answers differ"):
        export_artifact(folder, form, digits)
    assert content(folder) == before and [path.name for path in folder.parent.iterdir()] == ["classifier"]


@pytest.mark.parametrize("form, module", [("pte", pte_model), ("openvino", openvino_model)])
def test_a_converter_that_fails_is_one_line_with_exit_code_4(folder, ready, monkeypatch, capfd, form, module):
    "Without the extras: the converter is a stand-in that fails in several lines."
    def fail(*arguments, **keywords):
        raise NotImplementedError("no such operator\nand forty lines more")
    before, tool = content(folder), SimpleNamespace(to_edge_transform_and_lower=fail, XnnpackPartitioner=object, Core=fail)
    monkeypatch.setattr(module, "require", lambda *names: tool)
    monkeypatch.setattr(export_formats, "_NEEDS", {})
    assert main(["export", str(folder), "data=digits", "--to", form]) == 4
    lines = complaints(capfd.readouterr().err)
    assert len(lines) == 1 and "the network cannot be converted to" in lines[0] and "NotImplementedError: no such operator" in lines[0]
    assert content(folder) == before


@pytest.mark.parametrize("form, module, extra", [("pte", "executorch", "executorch"), ("openvino", "openvino", "openvino"), ("openvino-int8", "nncf", "openvino")])
def test_a_missing_runtime_is_answered_with_what_to_install(folder, ready, monkeypatch, capfd, form, module, extra):
    before = content(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["export", str(folder), "data=digits", "--to", form]) == 2
    assert f"{module} is not installed. pip install 'literate-image-classifier[{extra}]'" in capfd.readouterr().err and content(folder) == before


def test_eight_bits_of_openvino_pass_the_gate_of_eight_bits(folder, many, ready, monkeypatch):
    needs("openvino-int8")
    monkeypatch.setattr(int8, "time_forms", lambda *arguments: {"openvino": {1: 1.0}, "openvino-int8": {1: 0.5}})
    monkeypatch.setattr(int8, "MOST_LOSS", 1.0)
    form = export_artifact(folder, "openvino-int8", many)[-1]
    assert {"model.openvino-int8.xml", "model.openvino-int8.bin"} <= set(check_manifest(folder)) and form.accuracy.value > 0.7
    assert form.size < 0.4 * (folder / "model.openvino.bin").stat().st_size and sys.modules.get("openvino_telemetry") is None
    monkeypatch.setattr(int8, "MOST_LOSS", 0.01)
    monkeypatch.setattr(openvino_model.OpenvinoModel, "outputs", lambda self, images: (np.eye(10)[np.zeros(len(images), int)], None))
    judged, kept = int8.judge_form(export_formats.ExportJob(Classifier.load(folder), {}, folder, many), form, openvino_model.OpenvinoModel(
        folder / "model.openvino-int8.xml", many.classes), form, "x")
    assert (judged.error.exit_code, kept) == (4, False)


# what is kept, and what an export must not break


def test_the_artifact_keeps_all_it_had_and_the_card_has_the_figures(home, digits):
    plain, exported = content(home / "plain"), content(home / "classifier")
    same = {name for name in plain if exported[name] == plain[name]}
    assert same == set(plain) - {MANIFEST, "README.md"}
    card, figures = exported["README.md"].decode(), json.loads(exported["exports.json"])["forms"]
    assert card.startswith("# An image classifier") and "## Exported forms" in card
    assert figures["onnx"]["bytes"] == len(exported["model.onnx"]) and set(figures) == {"pytorch", "onnx"}
    right = [prediction.predicted_class == digits.classes[target] for prediction, target
             in zip(OnnxModel(home / "classifier").predict([*digits.test.images[:, 0]]), digits.test.targets)]
    assert figures["onnx"]["accuracy"]["value"] == figures["pytorch"]["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_export_works_without_data_and_says_so(folder, ready, capfd):
    assert main(["export", str(folder)]) == 0
    out, err = capfd.readouterr()
    assert "64 generated images" in out and len(complaints(err)) == 1 and "outside of a run" in err
    assert OnnxModel(folder).source == onnx_metadata(folder)["source"]


def test_an_interrupted_export_changes_nothing(folder, digits, ready, monkeypatch):
    before = content(folder)
    for place, name in ((export_formats, "check_parity"), (exporting, "write_manifest")):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(place, name, lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt()))
            export_artifact(folder, "onnx", digits)
        assert content(folder) == before and [path.name for path in folder.parent.iterdir()] == ["classifier"]


def test_an_export_of_another_classifier_is_refused(home, folder, digits):
    network = build_model("simple_cnn", channels=1, classes=10, size=8, seed=1)
    Classifier(network, digits.preprocess, digits.classes).save(folder)
    shutil.copy(home / "classifier" / "model.onnx", folder)
    write_manifest(folder)
    with pytest.raises(ArtifactError, match="exported from another classifier"):
        OnnxModel(folder)
    assert OnnxModel(shutil.copy(home / "classifier" / "model.onnx", folder.parent / "alone.onnx")).threshold is None


def test_a_damaged_export_is_refused(home, folder):
    shutil.copytree(home / "classifier", folder, dirs_exist_ok=True)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ArtifactError, match="sha256 mismatch in model.onnx"):
        OnnxModel(folder)


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_no_file_beside_an_export_is_read(folder, ready, tmp_path, monkeypatch, place):
    "Weights in another file would not be covered by the manifest, and the name may be any file of this machine."
    def outside(graph):
        tensor = max(graph.initializer, key=lambda tensor: len(tensor.raw_data))
        (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
        for key, value in (("location", place.format(folder=tmp_path)), ("length", str(len(tensor.raw_data)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "alone.onnx").write_bytes(edited(ready, outside))
    monkeypatch.chdir(folder if place.startswith("..") else tmp_path)
    with pytest.raises(ArtifactError, match="External data path"):
        OnnxModel(tmp_path / "alone.onnx")


@pytest.mark.parametrize("name", ["classifier.json", "model.safetensors", "ood.safetensors", "model.onnx"])
def test_a_file_that_the_manifest_does_not_list_is_not_read(home, folder, name):
    shutil.copytree(home / "classifier", folder, dirs_exist_ok=True)
    listed = json.loads((folder / MANIFEST).read_text())
    del listed["files"][name]
    (folder / MANIFEST).write_text(json.dumps(listed))
    with pytest.raises(ArtifactError, match=f"{name} missing from the manifest|no {name} in this classifier"):
        OnnxModel(folder)


@pytest.mark.parametrize("figures", ["[]", '{"format": 1, "forms": {"<b>": 1, "onnx": {"file": "../x"}}}', '{"format": 1, "forms": [{}]}',
                                     '{"format": 1, "forms": {"a": {"file": null, "beside": ["../x"], "bytes": 1, "note": "", "accuracy": null, "milliseconds": null}}}',
                                     '{"format": 1, "forms": {"a": {"file": "gone.onnx", "bytes": 1, "note": "", "accuracy": null, "milliseconds": {"1": 1, "32": 1}}}}'])
def test_figures_from_elsewhere_do_not_get_into_the_card(folder, digits, ready, figures):
    (folder / "exports.json").write_text(figures)
    write_manifest(folder)
    export_artifact(folder, "onnx", digits)
    assert set(json.loads((folder / "exports.json").read_text())["forms"]) == {"pytorch", "onnx"}
    assert "<b>" not in (folder / "README.md").read_text()


def test_a_signed_classifier_is_exported_with_its_key_alone(folder, ready, capfd):
    pytest.importorskip("model_signing", reason="the extra sign is not installed")
    keys, others = folder.parent / "keys", folder.parent / "others"
    for place in (keys, others):
        generate_keys(place)
    sign(folder, keys / "private.pem")
    before = content(folder)
    for words, said in (([], "--resign"), (["--resign", str(others / "private.pem")], "signature does not match key"),
                        (["--resign", str(keys / "public.pem")], "not a private key")):
        assert main(["export", str(folder), "data=digits", *words]) == 4
        assert said in capfd.readouterr().err and content(folder) == before
    assert main(["export", str(folder), "data=digits", "--resign", str(keys / "private.pem")]) == 0
    assert main(["verify", str(folder), "--key", str(keys / "public.pem")]) == 0 and OnnxModel(folder)


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_answered_with_what_to_install(folder, monkeypatch, capfd, module):
    before = content(folder)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(export_formats, "to_onnx", export_formats.to_onnx if module != "onnxruntime" else lambda classifier, notes: b"")
    assert main(["export", str(folder), "data=digits"]) == 2
    assert f"{module} is not installed. pip install 'literate-image-classifier[export]'" in capfd.readouterr().err and content(folder) == before


def test_a_format_of_ones_own_is_exported_beside_onnx(folder, digits, ready):
    @register_exporter("names")
    def names(job):
        file = job.folder / "names.txt"
        file.write_text("\n".join(job.classifier.classes))
        return ExportedForm("names", file, note=f"beside {job.form('onnx').file.name}")
    try:
        forms = export_artifact(folder, "names", digits)
    finally:
        del EXPORTERS["names"]
    assert [form.name for form in forms] == ["pytorch", "onnx", "names"] and (folder / "names.txt").read_text()[:3] == "0\n1"
    assert set(check_manifest(folder)) >= {"names.txt", "model.onnx"} and "names.txt" in (folder / "README.md").read_text()


def test_a_package_that_a_format_of_ones_own_needs_is_missed_before_any_work(folder, digits, monkeypatch):
    monkeypatch.setattr(export_formats, "to_onnx", lambda *arguments: pytest.fail("computed"))
    monkeypatch.setitem(sys.modules, "converter", None)
    register_exporter("mine", {"converter.tools": "", **export_formats.ONNX_NEEDS})(lambda job: pytest.fail("called"))
    try:
        with pytest.raises(ConfigError, match=r"converter is not installed. pip install converter$"):
            export_artifact(folder, "onnx,mine", digits)
    finally:
        del EXPORTERS["mine"]
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize("to, said", [("onxx", "did you mean onnx?"), ("", "unknown export format"), ("onnx,../x", "unknown export format")])
def test_an_unknown_format_is_answered_with_the_nearest(folder, to, said, capfd):
    assert main(["export", str(folder), "data=digits", "--to", to]) == 2
    assert said in capfd.readouterr().err


def test_images_of_another_shape_are_refused_before_anything_is_computed(folder, digits, monkeypatch):
    monkeypatch.setattr(export_formats, "to_onnx", lambda *arguments: pytest.fail("computed"))
    with pytest.raises(ConfigError, match="images of 1 x 4 x 4, the classifier takes 1 x 8 x 8"):
        export_artifact(folder, "onnx", replace(digits.test, images=digits.test.images[:, :, :4, :4]))
