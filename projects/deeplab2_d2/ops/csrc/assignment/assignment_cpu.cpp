#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "assignment.h"

namespace deeplab2_d2 {
namespace {

constexpr int kNone = -1;

// Rows, at most as many as columns, that get a column one after the other.
class Assignment {
 public:
  // costs: num_rows x num_columns, row by row, kept by the caller.
  Assignment(const double* costs, int num_rows, int num_columns)
      : costs_(costs),
        num_columns_(num_columns),
        row_price_(num_rows),
        column_price_(num_columns),
        distance_(num_columns),
        previous_row_(num_columns),
        open_(num_columns),
        column_of_row_(num_rows, kNone),
        row_of_column_(num_columns, kNone) {
    for (int row = 0; row < num_rows; ++row) {
      add_row(row);
    }
  }

  int column_of_row(int row) const { return column_of_row_[row]; }

 private:
  void add_row(int new_row) {
    std::fill(distance_.begin(), distance_.end(), std::numeric_limits<double>::infinity());
    for (int i = 0; i < num_columns_; ++i) {
      open_[i] = num_columns_ - 1 - i;
    }
    int num_open = num_columns_, row = new_row, column = kNone;
    double path_cost = 0;
    while (row != kNone) {
      const int place = reach_from(row, path_cost, num_open);
      column = open_[place];
      path_cost = distance_[column];
      // Columns that have been reached gather behind the open ones.
      std::swap(open_[place], open_[--num_open]);
      row = row_of_column_[column];
    }
    update_prices(new_row, path_cost, num_open);
    // Along the path every row gives its column to the row before it.
    while (row != new_row) {
      row = previous_row_[column];
      row_of_column_[column] = row;
      std::swap(column, column_of_row_[row]);
    }
  }

  // Shortens the ways to the open columns by those through a row; the place of the nearest column.
  int reach_from(int row, double path_cost, int num_open) {
    const double* costs = costs_ + static_cast<int64_t>(row) * num_columns_;
    const double price = row_price_[row];
    double nearest = std::numeric_limits<double>::infinity();
    int place = kNone;
    for (int i = 0; i < num_open; ++i) {
      const int column = open_[i];
      const double way = path_cost + costs[column] - price - column_price_[column];
      if (way < distance_[column]) {
        distance_[column] = way;
        previous_row_[column] = row;
      }
      const double distance = distance_[column];
      if (distance < nearest || (distance == nearest && row_of_column_[column] == kNone)) {
        nearest = distance;
        place = i;
      }
    }
    return place;
  }

  void update_prices(int new_row, double path_cost, int num_open) {
    row_price_[new_row] += path_cost;
    for (int i = num_open; i < num_columns_; ++i) {
      const int column = open_[i], row = row_of_column_[column];
      const double change = path_cost - distance_[column];
      column_price_[column] -= change;
      if (row != kNone) {
        row_price_[row] += change;
      }
    }
  }

  const double* costs_;
  int num_columns_;
  std::vector<double> row_price_, column_price_;
  std::vector<double> distance_;   // of the columns, from the new row
  std::vector<int> previous_row_;  // on the way there
  std::vector<int> open_;          // columns not reached yet, then the others
  std::vector<int> column_of_row_, row_of_column_;
};

std::vector<int> list_existing(const bool* exists, int64_t size) {
  std::vector<int> indices;
  for (int64_t i = 0; i < size; ++i) {
    if (exists == nullptr || exists[i]) {
      indices.push_back(static_cast<int>(i));
    }
  }
  return indices;
}

// Fills the columns of an image's rows; false if a cost is not finite.
template <typename scalar_t>
bool assign(const scalar_t* costs, int64_t num_columns, const std::vector<int>& rows,
            const std::vector<int>& columns, int64_t* column_of_row) {
  const bool is_transposed = columns.size() < rows.size();
  const int num_short = static_cast<int>(std::min(rows.size(), columns.size()));
  const int num_long = static_cast<int>(std::max(rows.size(), columns.size()));
  std::vector<double> matrix(static_cast<size_t>(num_short) * num_long);
  bool is_finite = true;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < columns.size(); ++c) {
      const double cost = costs[rows[r] * num_columns + columns[c]];
      matrix[is_transposed ? c * num_long + r : r * num_long + c] = cost;
      is_finite &= std::abs(cost) <= kLargestCost;
    }
  }
  if (!is_finite) {
    return false;
  }
  const Assignment solved(matrix.data(), num_short, num_long);
  for (int i = 0; i < num_short; ++i) {
    const int other = solved.column_of_row(i);
    column_of_row[rows[is_transposed ? other : i]] = columns[is_transposed ? i : other];
  }
  return true;
}

at::Tensor linear_assignment_cpu(const at::Tensor& costs, const std::optional<at::Tensor>& has_row,
                                 const std::optional<at::Tensor>& has_column) {
  check_assignment(costs, has_row, has_column);
  const int64_t num_images = costs.size(0), num_rows = costs.size(1), num_columns = costs.size(2);
  at::Tensor result = at::full({num_images, num_rows}, kNoColumn, costs.options().dtype(at::kLong));
  const at::Tensor matrices = costs.contiguous();
  const at::Tensor row_flags = has_row.has_value() ? has_row->contiguous() : at::Tensor();
  const at::Tensor column_flags = has_column.has_value() ? has_column->contiguous() : at::Tensor();
  int64_t* assigned = result.mutable_data_ptr<int64_t>();
  // Not of bool, whose elements share bytes.
  std::vector<char> is_finite(num_images, 1);
  const auto flags_of = [](const at::Tensor& flags, int64_t image) {
    return flags.defined() ? flags.const_data_ptr<bool>() + image * flags.size(1) : nullptr;
  };
  at::parallel_for(0, num_images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      const auto rows = list_existing(flags_of(row_flags, image), num_rows);
      const auto columns = list_existing(flags_of(column_flags, image), num_columns);
      const int64_t offset = image * num_rows * num_columns;
      int64_t* column_of_row = assigned + image * num_rows;
      is_finite[image] = costs.scalar_type() == at::kFloat
                             ? assign(matrices.const_data_ptr<float>() + offset, num_columns, rows,
                                      columns, column_of_row)
                             : assign(matrices.const_data_ptr<double>() + offset, num_columns, rows,
                                      columns, column_of_row);
    }
  });
  const auto first = std::find(is_finite.begin(), is_finite.end(), 0);
  TORCH_CHECK_VALUE(first == is_finite.end(), "linear_assignment: costs must be finite, at most ",
                    kLargestCost, " in size, but those of image ", first - is_finite.begin(),
                    " are not");
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("linear_assignment", &linear_assignment_cpu); }

}  // namespace deeplab2_d2
