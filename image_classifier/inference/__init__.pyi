from .artifact import to_metadata as to_metadata
from .cards import model_card as model_card
from .classifier import Classifier as Classifier, export_artifact as export_artifact, load_signed as load_signed
from .explanation import EXPLAIN_METHODS as EXPLAIN_METHODS, Explanation as Explanation, check_explanation as check_explanation, explain_pixels as explain_pixels, plot_looks as plot_looks
from .export_formats import EXPORTERS as EXPORTERS, ExportJob as ExportJob, ExportedForm as ExportedForm, ONNX_NEEDS as ONNX_NEEDS, register_exporter as register_exporter
from .exporting import check_exporters as check_exporters, forms_table as forms_table
from .metadata import check_metadata as check_metadata
from .onnx_model import OnnxModel as OnnxModel
from .prediction import ImageInput as ImageInput, Prediction as Prediction, classifier_words as classifier_words, predict_images as predict_images, read_image_file as read_image_file, read_pixels as read_pixels, to_prediction as to_prediction
from .signing import PRIVATE as PRIVATE, PUBLIC as PUBLIC, fingerprint as fingerprint, generate_keys as generate_keys, read_private_key as read_private_key, read_public_key as read_public_key, sign as sign, verify as verify
from .teacher import Teacher as Teacher, load_teacher as load_teacher
from .web_folder import RUNTIME_VARIABLE as RUNTIME_VARIABLE, write_web_folder as write_web_folder
