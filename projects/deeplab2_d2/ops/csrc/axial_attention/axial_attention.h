// Position-sensitive axial attention, and its gradient.
//
// The contract is the docstring of `deeplab2_d2.ops.axial_attention`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>
#include <type_traits>

namespace deeplab2_d2 {

// The type that sums over values of raw are of, and the parameters.
template <typename scalar_t>
using Accumulated = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

// The inputs of both passes.
struct AttentionInputs {
  at::Tensor raw;                               // (N, 2 K + V, S, L)
  at::Tensor scale, shift;                      // (2 K + V)
  at::Tensor logit_scale;                       // (3, H)
  at::Tensor logit_shift;                       // (H)
  std::optional<at::Tensor> query, key, value;  // (2 L - 1, K / H), the same, (2 L - 1, V / H)
  int64_t value_depth;                          // V
  bool retrieve_content;
  int64_t reach;

  int64_t num_heads() const { return logit_shift.size(0); }
  int64_t key_depth() const { return (raw.size(1) - value_depth) / 2; }
  bool retrieve_encoding() const { return value.has_value(); }
  int64_t num_retrieved() const { return retrieve_content + retrieve_encoding(); }
};

inline void check_attention(const AttentionInputs& inputs) {
  const char* name = "axial_attention";
  const at::Tensor& raw = inputs.raw;
  TORCH_CHECK(raw.dim() == 4 && raw.numel() > 0, name,
              ": raw must be (N, 2 K + V, S, L), not empty, got ", raw.sizes());
  TORCH_CHECK(inputs.logit_shift.dim() == 1 && inputs.num_heads() > 0, name,
              ": logit_shift must be (H), got ", inputs.logit_shift.sizes());
  const int64_t heads = inputs.num_heads(), depth = inputs.key_depth();
  TORCH_CHECK(inputs.value_depth > 0 && depth > 0 &&
                  raw.size(1) == 2 * depth + inputs.value_depth && depth % heads == 0 &&
                  inputs.value_depth % heads == 0,
              name, ": channels must be 2 K + V, multiples of ", heads, " heads, got ", raw.size(1),
              " of which V is ", inputs.value_depth);
  TORCH_CHECK(inputs.num_retrieved() > 0 && inputs.reach >= 0, name,
              ": something must be retrieved, and reach be at least 0, got ", inputs.reach);
  const auto parameters = inputs.scale.scalar_type();
  TORCH_CHECK(parameters == (raw.scalar_type() == at::kDouble ? at::kDouble : at::kFloat), name,
              ": scale must be float32, or float64 for raw of it, got ", inputs.scale.dtype());
  const int64_t relative = 2 * raw.size(3) - 1;
  auto check = [&](const char* what, const at::Tensor& tensor, at::IntArrayRef size) {
    TORCH_CHECK(tensor.sizes() == size && tensor.scalar_type() == parameters &&
                    tensor.device() == raw.device(),
                name, ": ", what, " must be ", size, " of ", parameters, " on ", raw.device(),
                ", got ", tensor.sizes(), " of ", tensor.dtype(), " on ", tensor.device());
  };
  check("scale", inputs.scale, {raw.size(1)});
  check("shift", inputs.shift, {raw.size(1)});
  check("logit_scale", inputs.logit_scale, {3, heads});
  check("logit_shift", inputs.logit_shift, {heads});
  if (inputs.query.has_value()) {
    check("query_encoding", *inputs.query, {relative, depth / heads});
  }
  if (inputs.key.has_value()) {
    check("key_encoding", *inputs.key, {relative, depth / heads});
  }
  if (inputs.value.has_value()) {
    check("value_encoding", *inputs.value, {relative, inputs.value_depth / heads});
  }
}

// The gradient of what is retrieved.
inline void check_gradient(const at::Tensor& grad, const AttentionInputs& inputs) {
  const at::Tensor& raw = inputs.raw;
  TORCH_CHECK(grad.dim() == 4 && grad.scalar_type() == raw.scalar_type() &&
                  grad.device() == raw.device() && grad.size(0) == raw.size(0) &&
                  grad.size(1) == inputs.num_retrieved() * inputs.value_depth &&
                  grad.size(2) == raw.size(2) && grad.size(3) == raw.size(3),
              "axial_attention_backward: grad must be as what is retrieved, got ", grad.sizes(),
              " of ", grad.dtype(), " on ", grad.device());
}

// The same in one piece.
inline AttentionInputs in_one_piece(const AttentionInputs& inputs) {
  const auto contiguous = [](const std::optional<at::Tensor>& table) {
    return table.has_value() ? std::optional<at::Tensor>(table->contiguous()) : std::nullopt;
  };
  return {inputs.raw.contiguous(),
          inputs.scale.contiguous(),
          inputs.shift.contiguous(),
          inputs.logit_scale.contiguous(),
          inputs.logit_shift.contiguous(),
          contiguous(inputs.query),
          contiguous(inputs.key),
          contiguous(inputs.value),
          inputs.value_depth,
          inputs.retrieve_content,
          inputs.reach};
}

}  // namespace deeplab2_d2
