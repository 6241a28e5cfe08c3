#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "../dispatch.h"
#include "assignment.h"

namespace deeplab2_d2 {
namespace {

constexpr int kNone = -1;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Columns are worked on in groups of so many, of which a processor does several at once.
constexpr int kLanes = 8;

int pad(int num_columns) { return (num_columns + kLanes - 1) / kLanes * kLanes; }

// Shortens the ways to open columns by those through a row; the length of the shortest way to one.
// is_reached: 0 for open columns, infinity for those that take no part.
DEEPLAB2_D2_CLONES
double shorten_ways(const double* costs, const double* column_price, const double* is_reached,
                    double path_cost, double row_price, int64_t row, int num_columns,
                    double* distance, int64_t* previous_row) {
  double least[kLanes];
  std::fill(least, least + kLanes, kInfinity);
  for (int first = 0; first < num_columns; first += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int i = first + lane;
      const double way = path_cost + costs[i] - row_price - column_price[i] + is_reached[i];
      const bool is_shorter = way < distance[i];
      distance[i] = is_shorter ? way : distance[i];
      previous_row[i] = is_shorter ? row : previous_row[i];
      const double open_distance = distance[i] + is_reached[i];
      least[lane] = open_distance < least[lane] ? open_distance : least[lane];
    }
  }
  return *std::min_element(least, least + kLanes);
}

// Rows, at most as many as columns, that get a column one after the other.
class Assignment {
 public:
  // costs: num_rows x pad(num_columns), row by row, kept by the caller.
  Assignment(const double* costs, int num_rows, int num_columns)
      : costs_(costs),
        num_columns_(num_columns),
        row_price_(num_rows),
        column_price_(pad(num_columns)),
        distance_(pad(num_columns)),
        is_reached_(pad(num_columns)),
        previous_row_(pad(num_columns)),
        open_(num_columns),
        place_(num_columns),
        column_of_row_(num_rows, kNone),
        row_of_column_(num_columns, kNone) {
    for (int row = 0; row < num_rows; ++row) {
      add_row(row);
    }
  }

  int column_of_row(int row) const { return column_of_row_[row]; }

 private:
  void add_row(int new_row) {
    std::fill(distance_.begin(), distance_.end(), kInfinity);
    std::fill(is_reached_.begin(), is_reached_.begin() + num_columns_, 0.0);
    std::fill(is_reached_.begin() + num_columns_, is_reached_.end(), kInfinity);
    for (int i = 0; i < num_columns_; ++i) {
      open_[i] = place_[i] = num_columns_ - 1 - i;
    }
    int num_open = num_columns_, row = new_row, column = kNone;
    double path_cost = 0;
    while (row != kNone) {
      path_cost = shorten_ways(costs_ + static_cast<int64_t>(row) * pad(num_columns_),
                               column_price_.data(), is_reached_.data(), path_cost, row_price_[row],
                               row, pad(num_columns_), distance_.data(), previous_row_.data());
      column = find_open(path_cost);
      reach(column, --num_open);
      row = row_of_column_[column];
    }
    update_prices(new_row, path_cost, num_open);
    // Along the path every row gives its column to the row before it.
    while (row != new_row) {
      row = static_cast<int>(previous_row_[column]);
      row_of_column_[column] = row;
      std::swap(column, column_of_row_[row]);
    }
  }

  // Of the open columns at a distance the last in the list that is free, else the first.
  int find_open(double distance) const {
    int found = kNone, least_rank = 2 * num_columns_;
    for (int column = 0; column < num_columns_; ++column) {
      if (distance_[column] + is_reached_[column] == distance) {
        const bool is_free = row_of_column_[column] == kNone;
        const int rank =
            is_free ? num_columns_ - 1 - place_[column] : num_columns_ + place_[column];
        if (rank < least_rank) {
          least_rank = rank;
          found = column;
        }
      }
    }
    return found;
  }

  // Columns that have been reached gather behind the open ones.
  void reach(int column, int last_place) {
    const int place = place_[column], moved = open_[last_place];
    open_[place] = moved;
    place_[moved] = place;
    open_[last_place] = column;
    place_[column] = last_place;
    is_reached_[column] = kInfinity;
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
  std::vector<double> distance_;       // of the columns, from the new row
  std::vector<double> is_reached_;     // see shorten_ways
  std::vector<int64_t> previous_row_;  // on the way to a column
  std::vector<int> open_, place_;      // columns not reached yet, then the others; where each is
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
  const size_t stride = pad(num_long);
  std::vector<double> matrix(num_short * stride);
  bool is_finite = true;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < columns.size(); ++c) {
      const double cost = costs[rows[r] * num_columns + columns[c]];
      matrix[is_transposed ? c * stride + r : r * stride + c] = cost;
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
