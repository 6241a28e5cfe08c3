// Assignment of least total cost.
//
// The contract is the docstring of `deeplab2_d2.ops.linear_assignment`. Both kernels do what
// SciPy's solver does, operation by operation in float64, so that ties fall alike: shortest
// augmenting paths (Crouse, "On implementing 2D rectangular assignment algorithms", 2016) from the
// rows in ascending order; the longer side is the columns'. The columns that a search has not
// reached stand in a list, at first in descending order; the column that is reached next is filled
// by the last of the list. Of several nearest columns it is the last in the list that is free, else
// the first.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <optional>

namespace deeplab2_d2 {

// The column of a row without one.
constexpr int64_t kNoColumn = -1;
// That of every row if costs of the image are not finite (on a GPU, which cannot raise an error).
constexpr int64_t kNotFinite = -2;
// Sums of larger costs may overflow.
constexpr double kLargestCost = 1e290;

inline void check_existence(const std::optional<at::Tensor>& exists, const at::Tensor& costs,
                            int64_t dim, const char* name) {
  if (!exists.has_value()) {
    return;
  }
  TORCH_CHECK_VALUE(
      exists->dim() == 2 && exists->size(0) == costs.size(0) && exists->size(1) == costs.size(dim),
      "linear_assignment: ", name, " must be (", costs.size(0), ", ", costs.size(dim), "), got ",
      exists->sizes());
  TORCH_CHECK_VALUE(exists->scalar_type() == at::kBool, "linear_assignment: ", name,
                    " must be bool, got ", exists->dtype());
  TORCH_CHECK_VALUE(exists->device() == costs.device(), "linear_assignment: ", name, " must be on ",
                    costs.device(), ", got ", exists->device());
}

inline void check_assignment(const at::Tensor& costs, const std::optional<at::Tensor>& has_row,
                             const std::optional<at::Tensor>& has_column) {
  TORCH_CHECK_VALUE(costs.dim() == 3, "linear_assignment: costs must be (N, R, C), got ",
                    costs.sizes());
  TORCH_CHECK_VALUE(costs.scalar_type() == at::kFloat || costs.scalar_type() == at::kDouble,
                    "linear_assignment: costs must be float32 or float64, got ", costs.dtype());
  TORCH_CHECK_VALUE(costs.size(1) < (1 << 29) && costs.size(2) < (1 << 29),
                    "linear_assignment: costs must have less than 2**29 rows and columns, got ",
                    costs.sizes());
  check_existence(has_row, costs, 1, "has_row");
  check_existence(has_column, costs, 2, "has_column");
}

}  // namespace deeplab2_d2
