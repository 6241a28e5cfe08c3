// The simplex of the permutohedral lattice that a point lies in.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace deeplab2_d2 {

// The simplex of a point. Vertex r of it (r = 0 .. d) has the coordinates (d + 1) * a_i + r, where
// a_i is `cell[i]`, less 1 if rank[i] > d - r.
template <int d>
struct Simplex {
  std::array<int64_t, d + 1> cell;
  std::array<int, d + 1> rank;  // 0 is the coordinate farthest above its cell's
  std::array<float, d + 1> share;
};

// The point on the hyperplane of sum 0 in d + 1 dimensions, in units where the lattice's blur has
// the standard deviation 1 of the points.
template <int d>
std::array<double, d + 1> elevate(const float* point) {
  std::array<double, d + 1> elevated;
  double sum = 0;
  for (int i = d; i > 0; --i) {
    const double scaled =
        point[i - 1] * ((d + 1) * std::sqrt(2.0 / 3.0) / std::sqrt(double(i) * (i + 1)));
    elevated[i] = sum - i * scaled;
    sum += scaled;
  }
  elevated[0] = sum;
  return elevated;
}

// Without a call of the library, which instruction sets before SSE 4.1 need.
inline int64_t round_to_integer(double value) {
  const int64_t whole = static_cast<int64_t>(value + 0.5);
  return whole - (static_cast<double>(whole) > value + 0.5);
}

template <int d>
Simplex<d> find_simplex(const float* point) {
  const std::array<double, d + 1> elevated = elevate<d>(point);
  Simplex<d> simplex;
  std::array<double, d + 1> rest;
  int64_t excess = 0;
  for (int i = 0; i <= d; ++i) {
    const double position = elevated[i] / (d + 1);
    simplex.cell[i] = round_to_integer(position);
    rest[i] = position - static_cast<double>(simplex.cell[i]);
    excess += simplex.cell[i];
    simplex.rank[i] = 0;
  }
  for (int i = 0; i < d; ++i) {
    for (int j = i + 1; j <= d; ++j) {
      const int is_behind = rest[i] < rest[j];
      simplex.rank[i] += is_behind;
      simplex.rank[j] += 1 - is_behind;
    }
  }
  // Rounded cells may have another sum than 0: the coordinates that were rounded farthest go on to
  // the next cell.
  for (int i = 0; i <= d; ++i) {
    int64_t rank = simplex.rank[i] + excess;
    const int64_t carry = rank < 0 ? 1 : rank > d ? -1 : 0;
    rank += carry * (d + 1);
    simplex.rank[i] = static_cast<int>(rank);
    simplex.cell[i] += carry;
    rest[i] -= static_cast<double>(carry);
  }
  std::array<double, d + 1> sorted;
  for (int i = 0; i <= d; ++i) {
    sorted[simplex.rank[i]] = rest[i];
  }
  simplex.share[0] = static_cast<float>(1.0 - (sorted[0] - sorted[d]));
  for (int r = 1; r <= d; ++r) {
    simplex.share[r] = static_cast<float>(sorted[d - r] - sorted[d - r + 1]);
  }
  return simplex;
}

}  // namespace deeplab2_d2
