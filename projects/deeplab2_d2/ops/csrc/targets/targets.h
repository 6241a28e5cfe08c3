// Panoptic-DeepLab's training targets of one segment map.
//
// The contract is the docstring of `deeplab2_d2.ops.panoptic_targets`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace deeplab2_d2 {

inline void check_panoptic_targets(const at::Tensor& segment_map, const at::Tensor& semantic,
                                   const at::Tensor& is_instance, const at::Tensor& is_crowd,
                                   const at::Tensor& window, int64_t window_before) {
  const char* name = "panoptic_targets";
  TORCH_CHECK(segment_map.dim() == 2 && segment_map.scalar_type() == at::kInt, name,
              ": segment_map must be (H, W) int32, got ", segment_map.sizes(), " ",
              segment_map.dtype());
  TORCH_CHECK(semantic.dim() == 1 && semantic.scalar_type() == at::kLong, name,
              ": semantic must be (S,) int64, got ", semantic.sizes(), " ", semantic.dtype());
  TORCH_CHECK(is_instance.sizes() == semantic.sizes() && is_crowd.sizes() == semantic.sizes() &&
                  is_instance.scalar_type() == at::kBool && is_crowd.scalar_type() == at::kBool,
              name, ": is_instance and is_crowd must be ", semantic.sizes(), " bool, got ",
              is_instance.sizes(), " ", is_instance.dtype(), " and ", is_crowd.sizes(), " ",
              is_crowd.dtype());
  TORCH_CHECK(
      window.dim() == 2 && window.size(0) == window.size(1) && window.scalar_type() == at::kFloat,
      name, ": window must be (n, n) float32, got ", window.sizes(), " ", window.dtype());
  TORCH_CHECK(0 <= window_before && window_before <= window.size(0), name,
              ": window_before must be in [0, ", window.size(0), "], got ", window_before);
}

}  // namespace deeplab2_d2
