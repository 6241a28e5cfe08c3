// Loops over one sequence of queries or keys, or a part of it; those of float are compiled for
// several instruction sets.
//
// "Rows" are (channels, positions), positions a multiple of kMomentLanes and those that are not
// there zeros. Pairs of channels (i, j), j <= i, are numbered i * (i + 1) / 2 + j.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

constexpr int64_t kMomentLanes = 8;

constexpr int64_t num_pairs(int64_t depth) { return depth * (depth + 1) / 2; }

// sums[i][l] += rows[i][l], and products[pair][l] += rows[i][l] * rows[j][l]
void add_products(const float* rows, int64_t depth, int64_t positions, float* sums,
                  float* products);
void add_products(const double* rows, int64_t depth, int64_t positions, double* sums,
                  double* products);

// totals[i] = sum_l rows[i][l], and gram[i][j] = gram[j][i] = sum_l rows[i][l] * rows[j][l]
void sum_products(const float* rows, int64_t depth, int64_t positions, float* totals, float* gram);
void sum_products(const double* rows, int64_t depth, int64_t positions, double* totals,
                  double* gram);

// out[i][l] = constant[i] + sums[i][l] + sum_j (products[pair][l] + gram[i][j]) * rows[j][l]
//
// products: (pairs, positions); gram: (depth, depth).
void weighted_rows(const float* rows, int64_t depth, int64_t positions, const float* constant,
                   const float* sums, const float* products, const float* gram, float* out);
void weighted_rows(const double* rows, int64_t depth, int64_t positions, const double* constant,
                   const double* sums, const double* products, const double* gram, double* out);

}  // namespace deeplab2_d2
