// Upsampling and weighted cross-entropy in one go, and its gradient.
//
// The contract is the docstring of `deeplab2_d2.ops.upsampled_cross_entropy`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>

namespace deeplab2_d2 {

inline void check_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                const std::optional<at::Tensor>& weights,
                                at::ArrayRef<double> scale) {
  const char* name = "upsampled_cross_entropy";
  TORCH_CHECK(logits.dim() == 4 && logits.size(1) > 0 && logits.size(2) > 0 && logits.size(3) > 0,
              name, ": logits must be (N, C, h, w), not empty, got ", logits.sizes());
  TORCH_CHECK(logits.scalar_type() == at::kFloat || logits.scalar_type() == at::kDouble, name,
              ": logits must be float32 or float64, got ", logits.dtype());
  TORCH_CHECK(labels.dim() == 3 && labels.size(0) == logits.size(0), name, ": labels must be (",
              logits.size(0), ", H, W), got ", labels.sizes());
  TORCH_CHECK(labels.scalar_type() == at::kLong, name, ": labels must be int64, got ",
              labels.dtype());
  TORCH_CHECK(labels.device() == logits.device(), name, ": labels must be on ", logits.device(),
              ", got ", labels.device());
  if (weights.has_value()) {
    TORCH_CHECK(weights->sizes() == labels.sizes(), name, ": weights must be ", labels.sizes(),
                ", got ", weights->sizes());
    TORCH_CHECK(weights->is_floating_point() && weights->device() == logits.device(), name,
                ": weights must be float, on ", logits.device(), ", got ", weights->dtype(), " on ",
                weights->device());
  }
  TORCH_CHECK(scale.size() == 2 && scale[0] >= 0 && scale[1] >= 0, name,
              ": scale must be two numbers of at least 0, got ", scale);
}

}  // namespace deeplab2_d2
