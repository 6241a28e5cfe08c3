#include "moment_loops.h"

#include "../dispatch.h"
#include "../vectors.h"
// Last.
#include "../joined_sums.h"

namespace deeplab2_d2 {
namespace {

// Channels whose sums are made together: they share what is loaded.
constexpr int kTogether = 4;

template <typename T>
using VectorOf = typename Lanes<T, kMomentLanes>::type;

template <typename T>
DEEPLAB2_D2_INLINE T sum_of(const VectorOf<T>& values) {
  T sum = 0;
  for (int64_t i = 0; i < kMomentLanes; ++i) {
    sum += values[i];
  }
  return sum;
}

template <typename T>
DEEPLAB2_D2_INLINE void add_products_of(const T* rows, int64_t depth, int64_t positions, T* sums,
                                        T* products) {
  for (int64_t i = 0; i < depth; ++i) {
    const T* row = rows + i * positions;
    for (int64_t l = 0; l < positions; ++l) {
      sums[i * positions + l] += row[l];
    }
    for (int64_t j = 0; j <= i; ++j) {
      const T* other = rows + j * positions;
      T* product = products + (num_pairs(i) + j) * positions;
      for (int64_t l = 0; l < positions; ++l) {
        product[l] += row[l] * other[l];
      }
    }
  }
}

// Of channel i with those from j on, kCount of them.
template <typename T, int kCount>
DEEPLAB2_D2_INLINE void gram_of(const T* rows, int64_t i, int64_t j, int64_t depth,
                                int64_t positions, T* gram) {
  using Vector = VectorOf<T>;
  Vector sums[kCount];
  for (int k = 0; k < kCount; ++k) {
    sums[k] = Vector{};
  }
  for (int64_t l = 0; l < positions; l += kMomentLanes) {
    Vector row;
    load(rows + i * positions + l, row);
    for (int k = 0; k < kCount; ++k) {
      Vector other;
      load(rows + (j + k) * positions + l, other);
      sums[k] = sums[k] + row * other;
    }
  }
  for (int k = 0; k < kCount; ++k) {
    gram[i * depth + j + k] = gram[(j + k) * depth + i] = sum_of<T>(sums[k]);
  }
}

template <typename T>
DEEPLAB2_D2_INLINE void sum_products_of(const T* rows, int64_t depth, int64_t positions, T* totals,
                                        T* gram) {
  using Vector = VectorOf<T>;
  for (int64_t i = 0; i < depth; ++i) {
    Vector sum{}, values;
    for (int64_t l = 0; l < positions; l += kMomentLanes) {
      load(rows + i * positions + l, values);
      sum = sum + values;
    }
    totals[i] = sum_of<T>(sum);
    int64_t j = 0;
    for (; j + kTogether <= i + 1; j += kTogether) {
      gram_of<T, kTogether>(rows, i, j, depth, positions, gram);
    }
    for (; j <= i; ++j) {
      gram_of<T, 1>(rows, i, j, depth, positions, gram);
    }
  }
}

template <typename T>
DEEPLAB2_D2_INLINE void weighted_rows_of(const T* rows, int64_t depth, int64_t positions,
                                         const T* constant, const T* sums, const T* products,
                                         const T* gram, T* out) {
  using Vector = VectorOf<T>;
  for (int64_t i = 0; i < depth; ++i) {
    for (int64_t l = 0; l < positions; l += kMomentLanes) {
      Vector total, other{}, values, weight;
      load(sums + i * positions + l, total);
      total = total + constant[i];
      const T* product = products + num_pairs(i) * positions + l;
      for (int64_t j = 0; j < depth; ++j) {
        load(product, weight);
        load(rows + j * positions + l, values);
        // Two sums, so that one addition need not wait for the other.
        Vector& sum = j % 2 == 0 ? total : other;
        sum = sum + (weight + gram[i * depth + j]) * values;
        product += (j < i ? 1 : j + 1) * positions;
      }
      store(total + other, out + i * positions + l);
    }
  }
}

}  // namespace

DEEPLAB2_D2_CLONES void add_products(const float* rows, int64_t depth, int64_t positions,
                                     float* sums, float* products) {
  add_products_of(rows, depth, positions, sums, products);
}

void add_products(const double* rows, int64_t depth, int64_t positions, double* sums,
                  double* products) {
  add_products_of(rows, depth, positions, sums, products);
}

DEEPLAB2_D2_CLONES void sum_products(const float* rows, int64_t depth, int64_t positions,
                                     float* totals, float* gram) {
  sum_products_of(rows, depth, positions, totals, gram);
}

void sum_products(const double* rows, int64_t depth, int64_t positions, double* totals,
                  double* gram) {
  sum_products_of(rows, depth, positions, totals, gram);
}

DEEPLAB2_D2_CLONES void weighted_rows(const float* rows, int64_t depth, int64_t positions,
                                      const float* constant, const float* sums,
                                      const float* products, const float* gram, float* out) {
  weighted_rows_of(rows, depth, positions, constant, sums, products, gram, out);
}

void weighted_rows(const double* rows, int64_t depth, int64_t positions, const double* constant,
                   const double* sums, const double* products, const double* gram, double* out) {
  weighted_rows_of(rows, depth, positions, constant, sums, products, gram, out);
}

}  // namespace deeplab2_d2
