from .activation_maps import grad_cam as grad_cam
from .calibration import Reliability as Reliability, calibration_error as calibration_error, reliability as reliability
from .classification import ClassScores as ClassScores, check_probabilities as check_probabilities, check_scores as check_scores, check_targets as check_targets, class_scores as class_scores, confusion_matrix as confusion_matrix, cross_entropy_per_image as cross_entropy_per_image, macro_averages as macro_averages, macro_intervals as macro_intervals, probabilities as probabilities
from .comparison import Difference as Difference, MEASURES as MEASURES, SeedSummary as SeedSummary, compare_evaluations as compare_evaluations, format_p as format_p, join_units as join_units, pair_images as pair_images, shared_images as shared_images, summarize_seeds as summarize_seeds, verdict as verdict
from .comparison_markdown import markdown_confusion as markdown_confusion, markdown_curves as markdown_curves
from .comparison_plots import plot_curves as plot_curves, plot_differences as plot_differences, plot_learning_curve as plot_learning_curve
from .evaluation import Evaluation as Evaluation, align_classes as align_classes, evaluate as evaluate, evaluate_logits as evaluate_logits, id_hashes as id_hashes, predict_logits as predict_logits, unit_hashes as unit_hashes
from .explanation_plots import plot_explanations as plot_explanations
from .figures import Figure as Figure, NEUTRAL as NEUTRAL, TRAIN as TRAIN, VALID as VALID, plot_images as plot_images, plot_message as plot_message, plot_style as plot_style, shrink_image as shrink_image
from .intervals import Interval as Interval, design_effect as design_effect, f1_interval as f1_interval, mean_interval as mean_interval, share_interval as share_interval, wilson as wilson
from .occlusion_maps import occlusion as occlusion
from .overlays import overlay as overlay, to_rgb as to_rgb
from .learning_curve import LearningCurve as LearningCurve, fit_learning_curve as fit_learning_curve
from .paired_tests import PairedTest as PairedTest, holm as holm, loss_bound as loss_bound, mcnemar as mcnemar
from .plots import ConfusedPair as ConfusedPair, Mistake as Mistake, confused_pairs as confused_pairs, mistakes_table as mistakes_table, plot_confused as plot_confused, plot_confusion as plot_confusion, plot_coverage as plot_coverage, plot_history as plot_history, plot_lr_finder as plot_lr_finder, plot_mistakes as plot_mistakes, plot_reliability as plot_reliability, worst_mistakes as worst_mistakes
from .predictions import load_predictions as load_predictions, save_predictions as save_predictions
from .summary import compute_metrics as compute_metrics, top_k_accuracy as top_k_accuracy
from .tables import format_ece as format_ece, metric_notes as metric_notes, classification_report as classification_report, format_interval as format_interval, metrics_table as metrics_table, per_class_table as per_class_table
from .temperature import TEMPERATURES as TEMPERATURES, fit_temperature as fit_temperature, scale_logits as scale_logits, stored_temperature as stored_temperature
from .abstention import coverage_curve as coverage_curve, fit_threshold as fit_threshold, measure_threshold as measure_threshold
from .slices import Slice as Slice, slice_accuracy as slice_accuracy, slice_names as slice_names, slices_report as slices_report, slices_table as slices_table
from .corruptions import CORRUPTIONS as CORRUPTIONS, SEVERITIES as SEVERITIES, corrupt as corrupt
from .robustness import Corrupted as Corrupted, Robustness as Robustness, measure_robustness as measure_robustness, plot_robustness as plot_robustness, robustness_report as robustness_report
from .out_of_distribution import KEPT as KEPT, OODDetector as OODDetector, auroc as auroc, fit_ood as fit_ood
