// Depthwise convolution with bias and activation, of features whose channels are last in memory.
//
// The contract is the docstring of `deeplab2_d2.ops.depthwise_convolution`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>

namespace deeplab2_d2 {

inline void check_depthwise(const at::Tensor& features, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                            at::IntArrayRef padding, at::IntArrayRef dilation) {
  constexpr char kName[] = "depthwise_convolution";
  const auto dtype = features.scalar_type();
  TORCH_CHECK(features.dim() == 4 && features.size(1) > 0 &&
                  (dtype == at::kFloat || dtype == at::kBFloat16),
              kName,
              ": features must be (N, C, h, w) of float32 or bfloat16, at least a channel, got ",
              features.sizes(), " of ", features.dtype());
  const int64_t channels = features.size(1);
  TORCH_CHECK(weight.dim() == 3 && weight.size(0) == channels && weight.size(1) > 0 &&
                  weight.size(2) > 0 && weight.scalar_type() == at::kFloat,
              kName, ": weight must be (", channels, ", kh, kw) of float32, got ", weight.sizes(),
              " of ", weight.dtype());
  TORCH_CHECK(!bias.has_value() || (bias->dim() == 1 && bias->size(0) == channels &&
                                    bias->scalar_type() == at::kFloat),
              kName, ": bias must be (", channels, ") of float32, got ", bias->sizes(), " of ",
              bias->dtype());
  const auto check = [&](const char* what, at::IntArrayRef pair, int64_t least) {
    TORCH_CHECK(pair.size() == 2 && pair[0] >= least && pair[1] >= least, kName, ": ", what,
                " must be two numbers of at least ", least, ", got ", pair);
  };
  check("stride", stride, 1);
  check("padding", padding, 0);
  check("dilation", dilation, 1);
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t padded = features.size(2 + axis) + 2 * padding[axis];
    const int64_t reach = dilation[axis] * (weight.size(1 + axis) - 1) + 1;
    TORCH_CHECK(padded >= reach, kName, ": the kernel must fit into the padded features, got ",
                reach, " positions of ", padded);
  }
}

}  // namespace deeplab2_d2
