// How many pixels each pair of labels of two maps shares.
//
// The contract is the docstring of `deeplab2_d2.ops.label_overlap`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>

namespace deeplab2_d2 {

// The count of every row if there are more pairs than rows.
constexpr int64_t kTooManyPairs = -1;

inline void check_label_overlap(const at::Tensor& first, const at::Tensor& second,
                                int64_t max_pairs) {
  TORCH_CHECK(max_pairs >= 0, "label_overlap: max_pairs must be at least 0, got ", max_pairs);
  TORCH_CHECK(first.sizes() == second.sizes(),
              "label_overlap: first and second must have one shape, got ", first.sizes(), " and ",
              second.sizes());
  TORCH_CHECK(at::isIntegralType(first.scalar_type(), false) &&
                  at::isIntegralType(second.scalar_type(), false),
              "label_overlap: first and second must be integers, got ", first.dtype(), " and ",
              second.dtype());
  TORCH_CHECK(first.device() == second.device(),
              "label_overlap: first and second must be on one device, "
              "got ",
              first.device(), " and ", second.device());
}

}  // namespace deeplab2_d2
