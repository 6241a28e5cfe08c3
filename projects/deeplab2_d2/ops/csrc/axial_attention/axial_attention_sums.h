// Sums over several values at a time, of which the loops over a sequence are made. Those of float
// are compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// Of num_queries (1 or 2) queries and the keys from first to end, in whole vectors:
//   out[m] = bias + sum_d x[d][m] * (a[d] + table[d][m]) + b[d] * other[d][m]
//
// a, b: (num_queries, depth), rows `stride` apart; x: (depth, x_stride); table (or null for zeros),
// other: (depth, table_stride), for the first query; those of the next query lie one place before.
void bilinear_rows(int num_queries, int64_t first, int64_t end, int64_t depth, float bias,
                   const float* a, const float* b, int64_t stride, const float* x, int64_t x_stride,
                   const float* table, const float* other, int64_t table_stride, float* out,
                   int64_t out_stride);
void bilinear_rows(int num_queries, int64_t first, int64_t end, int64_t depth, double bias,
                   const double* a, const double* b, int64_t stride, const double* x,
                   int64_t x_stride, const double* table, const double* other, int64_t table_stride,
                   double* out, int64_t out_stride);

// out[row][c] = sum_i weights[row * row_step + i * step] * x[i * x_step + c], out (num_rows,
// columns)
//
// num_rows: 1 or kRowsAtOnce; columns: a multiple of kVectorLanes.
void weighted_sums(int num_rows, const float* weights, int64_t row_step, int64_t step,
                   const float* x, int64_t x_step, int64_t count, int64_t columns, float* out,
                   int64_t out_step);
void weighted_sums(int num_rows, const double* weights, int64_t row_step, int64_t step,
                   const double* x, int64_t x_step, int64_t count, int64_t columns, double* out,
                   int64_t out_step);

// Softmax of [first, end) in place; what is around it is 0, up to `positions`.
void softmax_row(int64_t first, int64_t end, int64_t positions, float* row);
void softmax_row(int64_t first, int64_t end, int64_t positions, double* row);

// row: gradient of the weights in [first, end); then of the logits, and 0 around it. Their sum.
float softmax_gradient(int64_t first, int64_t end, int64_t positions, const float* weights,
                       float* row);
double softmax_gradient(int64_t first, int64_t end, int64_t positions, const double* weights,
                        double* row);

}  // namespace deeplab2_d2
