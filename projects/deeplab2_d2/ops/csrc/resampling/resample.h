// Maps at another resolution, and which channel of them is the largest there.
//
// The contracts are the docstrings of `deeplab2_d2.ops.resample_aligned` and `resample_argmax`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "../checks.h"

namespace deeplab2_d2 {

inline void check_resampling(const char* name, const at::Tensor& maps, at::IntArrayRef size,
                             at::ArrayRef<double> scale) {
  TORCH_CHECK(maps.dim() == 4 && maps.size(1) > 0 && maps.size(2) > 0 && maps.size(3) > 0, name,
              ": maps must be (N, C, h, w) of at least one channel and pixel, got ", maps.sizes());
  TORCH_CHECK(maps.is_floating_point(), name, ": maps must be float, got ", maps.dtype());
  check_frame(name, size, scale);
}

}  // namespace deeplab2_d2
