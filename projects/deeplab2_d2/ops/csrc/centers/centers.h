// Instance centers from the heatmap: upsampling, threshold, max-pooling suppression, top-k.
//
// The contract is the docstring of `deeplab2_d2.ops.find_centers`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <tuple>

namespace deeplab2_d2 {

inline void check_find_centers(const at::Tensor& heatmap, at::IntArrayRef size,
                               at::ArrayRef<double> scale, int64_t nms_kernel) {
  TORCH_CHECK(heatmap.dim() == 3 && heatmap.size(1) > 0 && heatmap.size(2) > 0,
              "find_centers: heatmap must be (N, h, w), not empty, got ", heatmap.sizes());
  TORCH_CHECK(heatmap.is_floating_point(), "find_centers: heatmap must be float, got ",
              heatmap.dtype());
  TORCH_CHECK(
      size.size() == 2 && size[0] > 0 && size[1] > 0 && size[0] < (int64_t(1) << 31) / size[1],
      "find_centers: size must be (height, width) of 1 to 2**31 - 1 pixels, got ", size);
  TORCH_CHECK(scale.size() == 2 && scale[0] >= 0 && scale[1] >= 0,
              "find_centers: scale must be two numbers of at least 0, got ", scale);
  TORCH_CHECK(nms_kernel >= 1, "find_centers: nms_kernel must be at least 1, got ", nms_kernel);
}

}  // namespace deeplab2_d2
