#include "axial_attention_sums.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "../dispatch.h"
#include "../exponential.h"
#include "../vectors.h"
#include "axial_attention_loops.h"
// Last.
#include "../joined_sums.h"

namespace deeplab2_d2 {
namespace {

template <typename T>
using VectorOf = typename Lanes<T, kVectorLanes>::type;

// Of a few queries and kVectors x kVectorLanes keys:
//   out[m] = bias + sum_d x[d][m] * (a[d] + table[d][m]) + b[d] * other[d][m]
//
// a, b: (kQueries, depth) with a stride; x: (depth, x_stride) from the first key on; table, other:
// (depth, table_stride), for the first query; those of the next query lie one place before.
template <typename T, int kQueries, int kVectors, bool kHasTable>
DEEPLAB2_D2_INLINE void bilinear_block(int64_t depth, T bias, const T* a, const T* b,
                                       int64_t stride, const T* x, int64_t x_stride, const T* table,
                                       const T* other, int64_t table_stride, T* out,
                                       int64_t out_stride) {
  using Vector = VectorOf<T>;
  Vector sums[kQueries][kVectors], others[kQueries][kVectors];
  for (int query = 0; query < kQueries; ++query) {
    for (int i = 0; i < kVectors; ++i) {
      sums[query][i] = Vector{} + bias;
      others[query][i] = Vector{};
    }
  }
  for (int64_t d = 0; d < depth; ++d) {
    for (int i = 0; i < kVectors; ++i) {
      Vector values;
      load(x + d * x_stride + i * kVectorLanes, values);
      for (int query = 0; query < kQueries; ++query) {
        const int64_t place = d * table_stride + i * kVectorLanes - query;
        Vector left = Vector{} + a[query * stride + d];
        if (kHasTable) {
          Vector encoding;
          load(table + place, encoding);
          left = left + encoding;
        }
        sums[query][i] = sums[query][i] + values * left;
        Vector encoding;
        load(other + place, encoding);
        others[query][i] = others[query][i] + encoding * b[query * stride + d];
      }
    }
  }
  for (int query = 0; query < kQueries; ++query) {
    for (int i = 0; i < kVectors; ++i) {
      store(sums[query][i] + others[query][i], out + query * out_stride + i * kVectorLanes);
    }
  }
}

// The same for keys [first, end) of the first query, in whole vectors.
template <typename T, int kQueries, bool kHasTable>
DEEPLAB2_D2_INLINE void bilinear(int64_t first, int64_t end, int64_t depth, T bias, const T* a,
                                 const T* b, int64_t stride, const T* x, int64_t x_stride,
                                 const T* table, const T* other, int64_t table_stride, T* out,
                                 int64_t out_stride) {
  int64_t m = first / kVectorLanes * kVectorLanes;
  for (; m + kVectorLanes < end; m += 2 * kVectorLanes) {
    bilinear_block<T, kQueries, 2, kHasTable>(depth, bias, a, b, stride, x + m, x_stride, table + m,
                                              other + m, table_stride, out + m, out_stride);
  }
  for (; m < end; m += kVectorLanes) {
    bilinear_block<T, kQueries, 1, kHasTable>(depth, bias, a, b, stride, x + m, x_stride, table + m,
                                              other + m, table_stride, out + m, out_stride);
  }
}

// out[row][c] of kVectors x kVectorLanes channels = sum_i weights[row * row_step + i * step] *
// x[i][c]
//
// kChains: sums that are made side by side, where the others would wait for each other.
template <typename T, int kRows, int kVectors, int kChains>
DEEPLAB2_D2_INLINE void weighted_block(const T* weights, int64_t row_step, int64_t step, const T* x,
                                       int64_t x_step, int64_t count, T* out, int64_t out_step) {
  using Vector = VectorOf<T>;
  Vector sums[kChains][kRows][kVectors]{};
  const auto add = [&](int64_t i, int chain) __attribute__((always_inline)) {
    Vector values[kVectors];
    for (int c = 0; c < kVectors; ++c) {
      load(x + i * x_step + c * kVectorLanes, values[c]);
    }
    for (int row = 0; row < kRows; ++row) {
      const T weight = weights[row * row_step + i * step];
      for (int c = 0; c < kVectors; ++c) {
        sums[chain][row][c] = sums[chain][row][c] + values[c] * weight;
      }
    }
  };
  int64_t i = 0;
  for (; i + kChains <= count; i += kChains) {
    for (int chain = 0; chain < kChains; ++chain) {
      add(i + chain, chain);
    }
  }
  for (; i < count; ++i) {
    add(i, 0);
  }
  for (int row = 0; row < kRows; ++row) {
    for (int c = 0; c < kVectors; ++c) {
      for (int chain = 1; chain < kChains; ++chain) {
        sums[0][row][c] = sums[0][row][c] + sums[chain][row][c];
      }
      store(sums[0][row][c], out + row * out_step + c * kVectorLanes);
    }
  }
}

// The same of all columns.
template <typename T, int kRows>
DEEPLAB2_D2_INLINE void weighted(const T* weights, int64_t row_step, int64_t step, const T* x,
                                 int64_t x_step, int64_t count, int64_t columns, T* out,
                                 int64_t out_step) {
  constexpr int kChains = kRows == 1 ? 4 : 1;
  int64_t c = 0;
  for (; c + 2 * kVectorLanes <= columns; c += 2 * kVectorLanes) {
    weighted_block<T, kRows, 2, kChains>(weights, row_step, step, x + c, x_step, count, out + c,
                                         out_step);
  }
  for (; c < columns; c += kVectorLanes) {
    weighted_block<T, kRows, 1, 2 * kChains>(weights, row_step, step, x + c, x_step, count, out + c,
                                             out_step);
  }
}

template <typename T>
DEEPLAB2_D2_INLINE T sum_of(const VectorOf<T>& values) {
  T sum = 0;
  for (int64_t i = 0; i < kVectorLanes; ++i) {
    sum += values[i];
  }
  return sum;
}

template <typename T>
DEEPLAB2_D2_INLINE void softmax(int64_t first, int64_t end, int64_t positions, T* row) {
  using Vector = VectorOf<T>;
  const int64_t start = first / kVectorLanes * kVectorLanes, stop = padded(end);
  std::fill(row + start, row + first, std::numeric_limits<T>::lowest());
  std::fill(row + end, row + stop, std::numeric_limits<T>::lowest());
  Vector values, best;
  load(row + start, best);
  for (int64_t m = start + kVectorLanes; m < stop; m += kVectorLanes) {
    load(row + m, values);
    best = values > best ? values : best;
  }
  T largest = best[0];
  for (int64_t i = 1; i < kVectorLanes; ++i) {
    largest = best[i] > largest ? best[i] : largest;
  }
  for (int64_t m = start; m < stop; ++m) {
    row[m] = exp_nonpositive(row[m] - largest);
  }
  std::fill(row, row + first, T(0));
  std::fill(row + end, row + positions, T(0));
  Vector sums{};
  for (int64_t m = start; m < stop; m += kVectorLanes) {
    load(row + m, values);
    sums = sums + values;
  }
  const T factor = T(1) / sum_of<T>(sums);
  for (int64_t m = start; m < stop; ++m) {
    row[m] *= factor;
  }
}

template <typename T>
DEEPLAB2_D2_INLINE T total(const T* row, int64_t count) {
  VectorOf<T> values, sum{};
  for (int64_t i = 0; i < count; i += kVectorLanes) {
    load(row + i, values);
    sum = sum + values;
  }
  return sum_of<T>(sum);
}

// Of two rows of whole vectors.
template <typename T>
DEEPLAB2_D2_INLINE T dot(const T* a, const T* b, int64_t count) {
  VectorOf<T> left, right, sum{};
  for (int64_t i = 0; i < count; i += kVectorLanes) {
    load(a + i, left);
    load(b + i, right);
    sum = sum + left * right;
  }
  return sum_of<T>(sum);
}

template <typename T>
DEEPLAB2_D2_INLINE T differentiate_softmax(int64_t first, int64_t end, int64_t positions,
                                           const T* weights, T* row) {
  std::fill(row, row + first, T(0));
  std::fill(row + end, row + positions, T(0));
  const T mean = dot(weights, row, positions);
  for (int64_t m = first; m < end; ++m) {
    row[m] = weights[m] * (row[m] - mean);
  }
  return total(row, positions);
}

template <typename T>
DEEPLAB2_D2_INLINE void choose_bilinear(int num_queries, int64_t first, int64_t end, int64_t depth,
                                        T bias, const T* a, const T* b, int64_t stride, const T* x,
                                        int64_t x_stride, const T* table, const T* other,
                                        int64_t table_stride, T* out, int64_t out_stride) {
  const auto make = [&](auto queries, auto has_table) __attribute__((always_inline)) {
    bilinear<T, queries, has_table>(first, end, depth, bias, a, b, stride, x, x_stride, table,
                                    other, table_stride, out, out_stride);
  };
  using One = std::integral_constant<int, 1>;
  using Two = std::integral_constant<int, 2>;
  if (table != nullptr) {
    num_queries == 1 ? make(One{}, std::true_type{}) : make(Two{}, std::true_type{});
  } else {
    num_queries == 1 ? make(One{}, std::false_type{}) : make(Two{}, std::false_type{});
  }
}

}  // namespace

DEEPLAB2_D2_CLONES void bilinear_rows(int num_queries, int64_t first, int64_t end, int64_t depth,
                                      float bias, const float* a, const float* b, int64_t stride,
                                      const float* x, int64_t x_stride, const float* table,
                                      const float* other, int64_t table_stride, float* out,
                                      int64_t out_stride) {
  choose_bilinear(num_queries, first, end, depth, bias, a, b, stride, x, x_stride, table, other,
                  table_stride, out, out_stride);
}

DEEPLAB2_D2_CLONES void weighted_sums(int num_rows, const float* weights, int64_t row_step,
                                      int64_t step, const float* x, int64_t x_step, int64_t count,
                                      int64_t columns, float* out, int64_t out_step) {
  if (num_rows == 1) {
    weighted<float, 1>(weights, row_step, step, x, x_step, count, columns, out, out_step);
  } else {
    weighted<float, kRowsAtOnce>(weights, row_step, step, x, x_step, count, columns, out, out_step);
  }
}

DEEPLAB2_D2_CLONES void softmax_row(int64_t first, int64_t end, int64_t positions, float* row) {
  softmax(first, end, positions, row);
}

DEEPLAB2_D2_CLONES float softmax_gradient(int64_t first, int64_t end, int64_t positions,
                                          const float* weights, float* row) {
  return differentiate_softmax(first, end, positions, weights, row);
}

void bilinear_rows(int num_queries, int64_t first, int64_t end, int64_t depth, double bias,
                   const double* a, const double* b, int64_t stride, const double* x,
                   int64_t x_stride, const double* table, const double* other, int64_t table_stride,
                   double* out, int64_t out_stride) {
  choose_bilinear(num_queries, first, end, depth, bias, a, b, stride, x, x_stride, table, other,
                  table_stride, out, out_stride);
}

void weighted_sums(int num_rows, const double* weights, int64_t row_step, int64_t step,
                   const double* x, int64_t x_step, int64_t count, int64_t columns, double* out,
                   int64_t out_step) {
  if (num_rows == 1) {
    weighted<double, 1>(weights, row_step, step, x, x_step, count, columns, out, out_step);
  } else {
    weighted<double, kRowsAtOnce>(weights, row_step, step, x, x_step, count, columns, out,
                                  out_step);
  }
}

void softmax_row(int64_t first, int64_t end, int64_t positions, double* row) {
  softmax(first, end, positions, row);
}

double softmax_gradient(int64_t first, int64_t end, int64_t positions, const double* weights,
                        double* row) {
  return differentiate_softmax(first, end, positions, weights, row);
}

}  // namespace deeplab2_d2
