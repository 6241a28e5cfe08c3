// Instance centers from the heatmap: upsampling, threshold, max-pooling suppression, top-k.
//
// The contract is the docstring of `deeplab2_d2.ops.find_centers`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "../checks.h"

namespace deeplab2_d2 {

inline void check_find_centers(const at::Tensor& heatmap, at::IntArrayRef size,
                               at::ArrayRef<double> scale, int64_t nms_kernel) {
  TORCH_CHECK(heatmap.dim() == 3 && heatmap.size(1) > 0 && heatmap.size(2) > 0,
              "find_centers: heatmap must be (N, h, w), not empty, got ", heatmap.sizes());
  TORCH_CHECK(heatmap.is_floating_point(), "find_centers: heatmap must be float, got ",
              heatmap.dtype());
  check_frame("find_centers", size, scale);
  TORCH_CHECK(nms_kernel >= 1, "find_centers: nms_kernel must be at least 1, got ", nms_kernel);
}

}  // namespace deeplab2_d2
