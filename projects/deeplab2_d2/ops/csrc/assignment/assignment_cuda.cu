// Work division: a block solves an image. Its threads share the columns of a search: each shortens
// the ways to some open columns, then all agree on the nearest one. Between two rows one thread
// walks back along the path. All state of an image is in shared memory, or, if it does not fit, in
// a workspace. The same float64 operations as on the CPU, and a minimum has no order: bit-equal.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "../warp.cuh"
#include "assignment.h"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kNone = -1;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// What a block may have without asking for more.
constexpr int64_t kSharedBytes = 48 * 1024 - 512;

// State of one image: `length` of each, the longer side of the matrix.
struct State {
  double *row_price, *column_price, *distance;
  int *previous_row, *open, *column_of_row, *row_of_column, *row_ids, *column_ids;

  __device__ State(char* memory, int64_t length) {
    double* doubles = reinterpret_cast<double*>(memory);
    row_price = doubles;
    column_price = doubles + length;
    distance = doubles + 2 * length;
    int* ints = reinterpret_cast<int*>(doubles + 3 * length);
    previous_row = ints;
    open = ints + length;
    column_of_row = ints + 2 * length;
    row_of_column = ints + 3 * length;
    row_ids = ints + 4 * length;
    column_ids = ints + 5 * length;
  }
};

constexpr int64_t kBytesPerElement = 3 * sizeof(double) + 6 * sizeof(int);

// An image's costs, read with the shorter side as rows.
template <typename scalar_t>
struct Matrix {
  const scalar_t* costs;
  int64_t row_stride, column_stride;
  const int *row_ids, *column_ids;
  int num_rows, num_columns;

  __device__ double at(int row, int column) const {
    return costs[row_ids[row] * row_stride + column_ids[column] * column_stride];
  }
};

// Lists the indices that exist, in ascending order; how many they are.
__device__ int list_existing(const bool* exists, int size, int* ids) {
  int found = 0;
  for (int i = threadIdx.x; i < size; i += kThreads) {
    int place = i;
    if (exists != nullptr) {
      place = 0;
      for (int before = 0; before < i; ++before) {
        place += exists[before];
      }
    }
    if (exists == nullptr || exists[i]) {
      ids[place] = i;
    }
  }
  for (int i = 0; i < size; ++i) {
    found += exists == nullptr || exists[i];
  }
  return found;
}

// A column at a place of the list of open ones. The nearer is the smaller; among equals a free one,
// the last of those in the list; else the first.
struct Candidate {
  double distance;
  int rank;

  __device__ static Candidate of(double distance, bool is_free, int place, int num_columns) {
    return {distance, is_free ? num_columns - 1 - place : num_columns + place};
  }
  __device__ int place(int num_columns) const {
    return rank < num_columns ? num_columns - 1 - rank : rank - num_columns;
  }
  __device__ void keep_smaller(double other, int other_rank) {
    if (other < distance || (other == distance && other_rank < rank)) {
      distance = other;
      rank = other_rank;
    }
  }
};

// The smallest of all threads' candidates. `shared`: kWarps of them, free to be overwritten.
__device__ Candidate smallest(Candidate own, Candidate* shared) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const double other = __shfl_xor_sync(kAllLanes, own.distance, distance);
    const int other_rank = __shfl_xor_sync(kAllLanes, own.rank, distance);
    own.keep_smaller(other, other_rank);
  }
  if (lane_of_thread() == 0) {
    shared[threadIdx.x / kWarp] = own;
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) {
    own.keep_smaller(shared[warp].distance, shared[warp].rank);
  }
  return own;
}

// This thread's part of the open columns: shorten their ways by those through a row.
template <typename scalar_t>
__device__ Candidate reach_from(const Matrix<scalar_t>& matrix, const State& state, int row,
                                double path_cost, int num_open) {
  const double price = state.row_price[row];
  Candidate nearest{kInfinity, 2 * matrix.num_columns};
  for (int i = threadIdx.x; i < num_open; i += kThreads) {
    const int column = state.open[i];
    const double way = path_cost + matrix.at(row, column) - price - state.column_price[column];
    if (way < state.distance[column]) {
      state.distance[column] = way;
      state.previous_row[column] = row;
    }
    const Candidate own = Candidate::of(
        state.distance[column], state.row_of_column[column] == kNone, i, matrix.num_columns);
    nearest.keep_smaller(own.distance, own.rank);
  }
  return nearest;
}

// Gives a row a column. All threads of the block call it, and find its work done when it returns.
template <typename scalar_t>
__device__ void add_row(const Matrix<scalar_t>& matrix, const State& state, int new_row,
                        Candidate* shared) {
  for (int i = threadIdx.x; i < matrix.num_columns; i += kThreads) {
    state.distance[i] = kInfinity;
    state.open[i] = matrix.num_columns - 1 - i;
  }
  __syncthreads();
  int num_open = matrix.num_columns, row = new_row, column = kNone;
  double path_cost = 0;
  while (row != kNone) {
    const Candidate nearest = smallest(reach_from(matrix, state, row, path_cost, num_open), shared);
    const int place = nearest.place(matrix.num_columns);
    path_cost = nearest.distance;
    column = state.open[place];
    row = state.row_of_column[column];
    __syncthreads();
    // Columns that have been reached gather behind the open ones.
    --num_open;
    if (threadIdx.x == 0) {
      state.open[place] = state.open[num_open];
      state.open[num_open] = column;
    }
    __syncthreads();
  }
  for (int i = num_open + threadIdx.x; i < matrix.num_columns; i += kThreads) {
    const int reached = state.open[i], owner = state.row_of_column[reached];
    const double change = path_cost - state.distance[reached];
    state.column_price[reached] -= change;
    if (owner != kNone) {
      state.row_price[owner] += change;
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    state.row_price[new_row] += path_cost;
    // Along the path every row gives its column to the row before it.
    while (row != new_row) {
      row = state.previous_row[column];
      state.row_of_column[column] = row;
      const int given = state.column_of_row[row];
      state.column_of_row[row] = column;
      column = given;
    }
  }
  __syncthreads();
}

template <typename scalar_t>
__device__ bool is_finite(const Matrix<scalar_t>& matrix) {
  bool all = true;
  for (int row = 0; row < matrix.num_rows; ++row) {
    for (int column = threadIdx.x; column < matrix.num_columns; column += kThreads) {
      all = all && fabs(matrix.at(row, column)) <= kLargestCost;
    }
  }
  return __syncthreads_and(all);
}

// workspace: of all images, or null if the block's shared memory is large enough.
template <typename scalar_t>
__global__ void __launch_bounds__(kThreads)
    assignment_kernel(const scalar_t* costs, const bool* has_row, const bool* has_column,
                      int num_rows, int num_columns, char* workspace, int64_t* assigned) {
  extern __shared__ double shared_memory[];
  __shared__ Candidate candidates[kWarps];
  const int64_t image = blockIdx.x, length = num_rows > num_columns ? num_rows : num_columns;
  const State state(workspace == nullptr ? reinterpret_cast<char*>(shared_memory)
                                         : workspace + image * length * kBytesPerElement,
                    length);
  int64_t* column_of_row = assigned + image * num_rows;
  const int found_rows = list_existing(has_row == nullptr ? nullptr : has_row + image * num_rows,
                                       num_rows, state.row_ids);
  const int found_columns =
      list_existing(has_column == nullptr ? nullptr : has_column + image * num_columns, num_columns,
                    state.column_ids);
  for (int i = threadIdx.x; i < length; i += kThreads) {
    state.row_price[i] = state.column_price[i] = 0;
    state.column_of_row[i] = state.row_of_column[i] = kNone;
  }
  __syncthreads();
  const bool is_transposed = found_columns < found_rows;
  Matrix<scalar_t> matrix{costs + image * num_rows * num_columns,
                          num_columns,
                          1,
                          state.row_ids,
                          state.column_ids,
                          found_rows,
                          found_columns};
  if (is_transposed) {
    matrix = {matrix.costs,  1,         num_columns, state.column_ids, state.row_ids,
              found_columns, found_rows};
  }
  const bool can_be_solved = is_finite(matrix);
  for (int i = threadIdx.x; i < num_rows; i += kThreads) {
    column_of_row[i] = can_be_solved ? kNoColumn : kNotFinite;
  }
  if (!can_be_solved) {
    return;
  }
  for (int row = 0; row < matrix.num_rows; ++row) {
    add_row(matrix, state, row, candidates);
  }
  for (int i = threadIdx.x; i < matrix.num_rows; i += kThreads) {
    const int own = matrix.row_ids[i], other = matrix.column_ids[state.column_of_row[i]];
    column_of_row[is_transposed ? other : own] = is_transposed ? own : other;
  }
}

template <typename scalar_t>
void launch(const at::Tensor& costs, const bool* has_row, const bool* has_column,
            at::Tensor& assigned) {
  const int64_t length = std::max(costs.size(1), costs.size(2));
  int64_t shared_bytes = length * kBytesPerElement;
  at::Tensor workspace;
  if (shared_bytes > kSharedBytes) {
    workspace = at::empty({costs.size(0) * shared_bytes}, costs.options().dtype(at::kByte));
    shared_bytes = 0;
  }
  char* memory = workspace.defined()
                     ? reinterpret_cast<char*>(workspace.mutable_data_ptr<uint8_t>())
                     : nullptr;
  const auto stream = c10::cuda::getCurrentCUDAStream();
  assignment_kernel<scalar_t><<<costs.size(0), kThreads, shared_bytes, stream>>>(
      costs.const_data_ptr<scalar_t>(), has_row, has_column, static_cast<int>(costs.size(1)),
      static_cast<int>(costs.size(2)), memory, assigned.mutable_data_ptr<int64_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

at::Tensor linear_assignment_cuda(const at::Tensor& costs, const std::optional<at::Tensor>& has_row,
                                  const std::optional<at::Tensor>& has_column) {
  check_assignment(costs, has_row, has_column);
  const c10::cuda::CUDAGuard guard(costs.device());
  at::Tensor assigned = at::empty({costs.size(0), costs.size(1)}, costs.options().dtype(at::kLong));
  if (assigned.numel() == 0) {
    return assigned;
  }
  const at::Tensor matrices = costs.contiguous();
  const at::Tensor row_flags = has_row.has_value() ? has_row->contiguous() : at::Tensor();
  const at::Tensor column_flags = has_column.has_value() ? has_column->contiguous() : at::Tensor();
  const bool* rows = row_flags.defined() ? row_flags.const_data_ptr<bool>() : nullptr;
  const bool* columns = column_flags.defined() ? column_flags.const_data_ptr<bool>() : nullptr;
  if (costs.scalar_type() == at::kFloat) {
    launch<float>(matrices, rows, columns, assigned);
  } else {
    launch<double>(matrices, rows, columns, assigned);
  }
  return assigned;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("linear_assignment", &linear_assignment_cuda); }

}  // namespace deeplab2_d2
