// From the heads' maps to panoptic labels in one go: upsampling, arg-max, grouping, merge.
//
// The contract is the docstring of `deeplab2_d2.ops.panoptic_from_logits`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "../checks.h"
#include "../grouping/grouping.h"
#include "../merging/segments.h"

namespace deeplab2_d2 {

using PanopticResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                                  at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Classes of the channels: their number.
inline int64_t check_channel_classes(at::IntArrayRef channel_to_class) {
  int64_t largest = -1;
  for (const int64_t id : channel_to_class) {
    TORCH_CHECK(
        id == -1 || (id > largest && id < (int64_t(1) << 24)),
        "panoptic_from_logits: channel_to_class must increase with the channel, with -1 for void, "
        "got ",
        channel_to_class);
    largest = std::max(largest, id);
  }
  TORCH_CHECK(largest >= 0, "panoptic_from_logits: channel_to_class must name a class, got ",
              channel_to_class);
  return largest + 1;
}

inline void check_panoptic_from_logits(const at::Tensor& semantic_logits,
                                       const at::Tensor& center_offsets, const at::Tensor& centers,
                                       const at::Tensor& center_scores,
                                       const at::Tensor& num_centers,
                                       at::IntArrayRef channel_to_class, at::IntArrayRef size,
                                       at::ArrayRef<double> scale,
                                       at::ArrayRef<double> offset_scale) {
  const char* name = "panoptic_from_logits";
  const int64_t num_channels = channel_to_class.size();
  TORCH_CHECK(semantic_logits.dim() == 4 && semantic_logits.size(1) == num_channels &&
                  semantic_logits.size(2) > 0 && semantic_logits.size(3) > 0,
              name, ": semantic_logits must be (N, ", num_channels,
              ", h, w) for this channel_to_class, got ", semantic_logits.sizes());
  const int64_t num_images = semantic_logits.size(0);
  TORCH_CHECK(center_offsets.dim() == 4 && center_offsets.size(0) == num_images &&
                  center_offsets.size(1) == 2 &&
                  center_offsets.size(2) == semantic_logits.size(2) &&
                  center_offsets.size(3) == semantic_logits.size(3),
              name, ": center_offsets must be (", num_images, ", 2, ", semantic_logits.size(2),
              ", ", semantic_logits.size(3), "), got ", center_offsets.sizes());
  TORCH_CHECK(semantic_logits.is_floating_point() && center_offsets.is_floating_point() &&
                  center_scores.is_floating_point(),
              name, ": semantic_logits, center_offsets and center_scores must be float, got ",
              semantic_logits.dtype(), ", ", center_offsets.dtype(), " and ",
              center_scores.dtype());
  check_centers(name, centers, num_centers, num_images);
  TORCH_CHECK(center_scores.dim() == 2 && center_scores.size(0) == num_images &&
                  center_scores.size(1) == centers.size(1),
              name, ": center_scores must be (", num_images, ", ", centers.size(1), "), got ",
              center_scores.sizes());
  TORCH_CHECK(center_offsets.device() == semantic_logits.device() &&
                  centers.device() == semantic_logits.device() &&
                  center_scores.device() == semantic_logits.device(),
              name, ": all tensors must be on ", semantic_logits.device());
  check_frame(name, size, scale);
  TORCH_CHECK(offset_scale.size() == 2, name, ": offset_scale must be two numbers, got ",
              offset_scale);
}

}  // namespace deeplab2_d2
