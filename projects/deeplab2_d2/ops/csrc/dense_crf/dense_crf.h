// Mean field of a fully connected CRF with Gaussian kernels, on the CPU.
//
// The contract is the docstring of `deeplab2_d2.ops.dense_crf`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <string_view>

namespace deeplab2_d2 {

inline void check_dense_crf(const at::Tensor& logits, const at::Tensor& image,
                            int64_t num_iterations, at::ArrayRef<double> weights,
                            at::ArrayRef<double> thetas, std::string_view normalization) {
  TORCH_CHECK(
      logits.dim() == 3 && logits.numel() > 0 && logits.size(1) * logits.size(2) < (1 << 28),
      "dense_crf: logits must be (C, H, W) of at least a class and 1 to 2**28 - 1 pixels, "
      "got ",
      logits.sizes());
  TORCH_CHECK(logits.scalar_type() == at::kFloat || logits.scalar_type() == at::kDouble,
              "dense_crf: logits must be float32 or float64, got ", logits.dtype());
  TORCH_CHECK(image.dim() == 3 && image.size(0) == 3 && image.size(1) == logits.size(1) &&
                  image.size(2) == logits.size(2),
              "dense_crf: image must be (3, H, W) of the logits' size, got ", image.sizes(),
              " for logits of ", logits.sizes());
  TORCH_CHECK(num_iterations >= 0, "dense_crf: num_iterations must be at least 0, got ",
              num_iterations);
  TORCH_CHECK(weights.size() == 2 && weights[0] >= 0 && weights[1] >= 0,
              "dense_crf: w1 and w2 must be at least 0, got ", weights);
  TORCH_CHECK(thetas.size() == 3 && thetas[0] > 0 && thetas[1] > 0 && thetas[2] > 0,
              "dense_crf: theta_alpha, theta_beta and theta_gamma must be positive, got ", thetas);
  TORCH_CHECK(normalization == "after" || normalization == "symmetric",
              "dense_crf: normalization must be 'after' or 'symmetric', got '", normalization, "'");
}

}  // namespace deeplab2_d2
