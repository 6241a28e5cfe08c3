// From mask slots to panoptic labels in one go: upsampling, arg-max or pasting, thresholds, limits.
//
// The contract is the docstring of `deeplab2_d2.ops.panoptic_from_slots`.
//
// Above a mask threshold of a third at most two probabilities of a pixel fit into 1: the two
// largest logits' slots are all masks that a pixel may be in. So pasting, one mask after the other,
// needs of the pixels only how many there are of each pair of slots; and a pixel's two slots are
// kept, packed into an integer, until it is known which masks were pasted. Pixel-wise, the second
// is none.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "../checks.h"
#include "../merging/segments.h"

namespace deeplab2_d2 {

// panoptic, semantic, slot, confidence (N, H, W); class confidence and rank (N, S); label,
// category, area, box, objectness, class probability and slot of the S + C segments.
using SlotsResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
               at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

constexpr int64_t kMaxSlots = 1024;
constexpr double kSmallestMaskThreshold = 0.334;
constexpr int32_t kNoSlot = 0xFFFF;

// Arguments that are no tensors.
struct SlotOptions {
  at::IntArrayRef channel_to_class, thing_ids, size;
  at::ArrayRef<double> scale;
  int64_t label_divisor;
  bool is_mask_wise;
  at::ArrayRef<double> class_thresholds;
  double mask_threshold, overlap_threshold;
  at::ArrayRef<double> rank_weights;
  at::IntArrayRef area_limits;
};

// The number of classes.
inline int64_t check_slots(const at::Tensor& mask_logits, const at::Tensor& class_logits,
                           const SlotOptions& options) {
  const char* name = "panoptic_from_slots";
  TORCH_CHECK(mask_logits.dim() == 4 && mask_logits.size(1) >= 1 &&
                  mask_logits.size(1) <= kMaxSlots && mask_logits.size(2) > 0 &&
                  mask_logits.size(3) > 0,
              name, ": mask_logits must be (N, S, h, w) with 1 to ", kMaxSlots,
              " slots of at least a pixel, got ", mask_logits.sizes());
  const int64_t num_images = mask_logits.size(0), num_slots = mask_logits.size(1);
  const int64_t num_channels = options.channel_to_class.size();
  TORCH_CHECK(class_logits.dim() == 3 && class_logits.size(0) == num_images &&
                  class_logits.size(1) == num_slots && class_logits.size(2) == num_channels + 1,
              name, ": class_logits must be (", num_images, ", ", num_slots, ", ", num_channels + 1,
              ") for these masks and classes, got ", class_logits.sizes());
  TORCH_CHECK(mask_logits.is_floating_point() && class_logits.is_floating_point(), name,
              ": mask_logits and class_logits must be float, got ", mask_logits.dtype(), " and ",
              class_logits.dtype());
  TORCH_CHECK(class_logits.device() == mask_logits.device(), name, ": all tensors must be on ",
              mask_logits.device(), ", got ", class_logits.device());
  int64_t num_classes = 0;
  for (size_t i = 0; i < options.channel_to_class.size(); ++i) {
    const int64_t id = options.channel_to_class[i];
    bool is_new = id >= 0 && id < (int64_t(1) << 24);
    for (size_t j = 0; j < i; ++j) {
      is_new = is_new && options.channel_to_class[j] != id;
    }
    TORCH_CHECK(is_new, name, ": channel_to_class must be different ids of at least 0, got ",
                options.channel_to_class);
    num_classes = std::max(num_classes, id + 1);
  }
  TORCH_CHECK(num_classes > 0, name, ": channel_to_class must name a class, got none");
  check_label_divisor(name, options.label_divisor, num_classes);
  TORCH_CHECK(options.label_divisor > num_slots, name, ": label_divisor must be more than the ",
              num_slots, " slots, got ", options.label_divisor);
  check_frame(name, options.size, options.scale);
  TORCH_CHECK(options.class_thresholds.size() == 2 && options.area_limits.size() == 2, name,
              ": class_thresholds and area_limits must be pairs, got ", options.class_thresholds,
              " and ", options.area_limits);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  TORCH_CHECK(options.rank_weights.size() == 2 && options.rank_weights[0] >= 0 &&
                  options.rank_weights[1] >= 0 && options.rank_weights[0] < kInfinity &&
                  options.rank_weights[1] < kInfinity,
              name, ": rank_weights must be two finite numbers of at least 0, got ",
              options.rank_weights);
  TORCH_CHECK(!options.is_mask_wise || options.mask_threshold >= kSmallestMaskThreshold, name,
              ": mask_threshold must be at least ", kSmallestMaskThreshold, " to paste masks, got ",
              options.mask_threshold);
  return num_classes;
}

// Empty outputs, in the order of SlotsResult.
struct SlotOutputs {
  SlotOutputs(const at::Tensor& mask_logits, const SlotOptions& options, int64_t num_classes) {
    const int64_t num_images = mask_logits.size(0), num_slots = mask_logits.size(1);
    const auto integers = mask_logits.options().dtype(at::kInt);
    const auto floats = mask_logits.options().dtype(at::kFloat);
    panoptic = at::empty({num_images, options.size[0], options.size[1]}, integers);
    semantic = at::empty_like(panoptic);
    slot = at::empty_like(panoptic);
    confidence = at::empty(panoptic.sizes(), floats);
    class_confidence = at::empty({num_images, num_slots}, floats);
    rank = at::empty({num_images, num_slots}, integers);
    label = at::empty({num_images, num_slots + num_classes}, integers);
    category = at::empty_like(label);
    area = at::empty_like(label);
    box = at::empty({num_images, num_slots + num_classes, 4}, integers);
    objectness = at::empty(label.sizes(), floats);
    probability = at::empty(label.sizes(), floats);
    segment_slot = at::empty_like(label);
  }

  SlotsResult result() const {
    return {panoptic, semantic, slot, confidence, class_confidence, rank,        label,
            category, area,     box,  objectness, probability,      segment_slot};
  }

  at::Tensor panoptic, semantic, slot, confidence, class_confidence, rank;
  at::Tensor label, category, area, box, objectness, probability, segment_slot;
};

}  // namespace deeplab2_d2
