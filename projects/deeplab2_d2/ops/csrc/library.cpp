// Schemas of all operators, and the PyTorch that this library is built for.
#include <torch/library.h>
#include <torch/version.h>

// setup.py names the version of CUDA if the kernels for it are built.
#ifdef DEEPLAB2_D2_CUDA
#define DEEPLAB2_D2_TEXT_OF(token) #token
#define DEEPLAB2_D2_TEXT(macro) DEEPLAB2_D2_TEXT_OF(macro)
#define DEEPLAB2_D2_WITH " with CUDA " DEEPLAB2_D2_TEXT(DEEPLAB2_D2_CUDA)
#else
#define DEEPLAB2_D2_WITH ""
#endif

// Found in the file by ops/extension.py before it is loaded.
extern "C" __attribute__((used, visibility("default"))) const char deeplab2_d2_built_for[] =
    "deeplab2_d2 built for torch " TORCH_VERSION DEEPLAB2_D2_WITH;

TORCH_LIBRARY(deeplab2_d2, m) {
  m.def(
      "find_centers(Tensor heatmap, SymInt[2] size, float[2] scale, *, float threshold, "
      "int nms_kernel, SymInt top_k) -> (Tensor centers, Tensor scores, Tensor counts)");
  m.def("resample_aligned(Tensor maps, SymInt[2] size, float[2] scale) -> Tensor");
  m.def("resample_argmax(Tensor maps, SymInt[2] size, float[2] scale) -> Tensor");
  m.def(
      "resize_window(Tensor image, SymInt[2] size, float[2] scale, SymInt[4] window, *, "
      "float fill) -> Tensor");
  m.def("group_pixels(Tensor centers, Tensor num_centers, Tensor offsets) -> Tensor");
  m.def(
      "merge_panoptic(Tensor semantic, Tensor instance, Tensor center_scores, *, int num_classes, "
      "int[] thing_ids, int label_divisor, int stuff_area_limit) -> (Tensor panoptic, "
      "Tensor panoptic_label, Tensor category, Tensor area, Tensor box, Tensor objectness)");
  m.def(
      "panoptic_from_logits(Tensor semantic_logits, Tensor center_offsets, Tensor centers, "
      "Tensor center_scores, Tensor num_centers, *, int[] channel_to_class, int[] thing_ids, "
      "SymInt[2] size, float[2] scale, float[2] offset_scale, int label_divisor, "
      "int stuff_area_limit, bool with_probability) -> (Tensor panoptic, Tensor semantic, "
      "Tensor instance, Tensor panoptic_label, Tensor category, Tensor area, Tensor box, "
      "Tensor objectness, Tensor class_probability)");
  m.def(
      "panoptic_from_slots(Tensor mask_logits, Tensor class_logits, *, int[] channel_to_class, "
      "int[] thing_ids, SymInt[2] size, float[2] scale, int label_divisor, bool is_mask_wise, "
      "float[2] class_thresholds, float mask_threshold, float overlap_threshold, "
      "float[2] rank_weights, int[2] area_limits) -> (Tensor panoptic, Tensor semantic, "
      "Tensor slot, Tensor mask_confidence, Tensor class_confidence, Tensor slot_rank, "
      "Tensor panoptic_label, Tensor category, Tensor area, Tensor box, Tensor objectness, "
      "Tensor class_probability, Tensor segment_slot)");
  m.def(
      "upsampled_cross_entropy(Tensor logits, Tensor labels, Tensor? weights, *, float[2] scale, "
      "int ignore_label) -> Tensor");
  m.def(
      "upsampled_cross_entropy_backward(Tensor grad, Tensor logits, Tensor labels, "
      "Tensor? weights, *, float[2] scale, int ignore_label) -> Tensor");
  m.def(
      "panoptic_targets(Tensor segment_map, Tensor semantic, Tensor is_instance, Tensor is_crowd, "
      "Tensor window, *, int window_before, int ignore_label, int small_instance_area, "
      "float small_instance_weight) -> (Tensor sem_seg, Tensor sem_seg_weights, "
      "Tensor center_heatmap, Tensor center_weights, Tensor center_offsets, "
      "Tensor offset_weights)");
  m.def("linear_assignment(Tensor costs, Tensor? has_row=None, Tensor? has_column=None) -> Tensor");
  m.def(
      "label_overlap(Tensor first, Tensor second, *, SymInt max_pairs=0) -> (Tensor pairs, "
      "Tensor counts)");
  m.def(
      "axial_attention(Tensor raw, Tensor scale, Tensor shift, Tensor logit_scale, "
      "Tensor logit_shift, Tensor? query_encoding, Tensor? key_encoding, Tensor? value_encoding, "
      "*, int value_depth, bool retrieve_content, int reach) -> Tensor");
  m.def(
      "axial_attention_backward(Tensor grad, Tensor raw, Tensor scale, Tensor shift, "
      "Tensor logit_scale, Tensor logit_shift, Tensor? query_encoding, Tensor? key_encoding, "
      "Tensor? value_encoding, *, int value_depth, bool retrieve_content, int reach) -> "
      "(Tensor raw, Tensor scale, Tensor shift, Tensor logit_scale, Tensor logit_shift, "
      "Tensor query_encoding, Tensor key_encoding, Tensor value_encoding)");
  m.def(
      "depthwise_convolution(Tensor features, Tensor weight, Tensor? bias, *, int[2] stride, "
      "int[2] padding, int[2] dilation, str activation) -> Tensor");
  m.def(
      "winograd_convolution(Tensor features, Tensor weight, Tensor? bias, *, int dilation, "
      "str activation) -> Tensor");
  m.def(
      "attention_moments(Tensor raw, Tensor scale, Tensor shift, *, int num_heads, "
      "int key_depth) -> (Tensor content, Tensor sums, Tensor products)");
  m.def(
      "attention_moments_backward(Tensor content, Tensor sums, Tensor products, Tensor raw, "
      "Tensor scale, Tensor shift, *, int num_heads, int key_depth) -> (Tensor raw, Tensor scale, "
      "Tensor shift)");
  m.def(
      "dense_crf(Tensor logits, Tensor image, *, int num_iterations, float[2] weights, "
      "float[3] thetas, str normalization) -> Tensor");
}
