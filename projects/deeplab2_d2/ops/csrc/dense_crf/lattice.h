// A permutohedral lattice under the pixels of an image: Gaussian filtering in a few dimensions.
//
// Reference: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral
// Lattice" (Eurographics 2010). A pixel lies in a simplex of d + 1 vertices. Filtering adds its
// values to them by barycentric shares (splat), blurs along the d + 1 directions of the lattice by
// (1/2, 1, 1/2), and reads with the same shares (slice). What the blur leaves out as a factor (it
// has no unit sum) cancels in every normalisation.
#pragma once

#include <cstdint>
#include <vector>

namespace deeplab2_d2 {

// Pixels are taken in bands, so that values of a band's vertices stay near: they have local rows,
// one band after the other, and every vertex has one global row. The bands depend on the number of
// pixels alone, and sums over them have one order: threads change no number.
struct Lattice {
  int64_t num_pixels = 0;
  int64_t corners = 0;     // of a simplex
  int64_t num_rows = 0;    // global: vertices, and row 0, which stands for all others and is 0
  int64_t num_locals = 0;  // local rows

  std::vector<int32_t> vertices;     // (pixels, corners): local rows, counted from the band's first
  std::vector<float> shares;         // (pixels, corners), of sum 1
  std::vector<int64_t> band_starts;  // (bands + 1): where a band's local rows begin
  std::vector<int32_t> local_to_row;  // (locals): global rows
  std::vector<int32_t> row_starts;    // (rows + 1): where a row begins in `row_to_local`
  std::vector<int32_t> row_to_local;  // (locals)
  std::vector<int32_t> neighbors;     // (corners, rows, 2): along each direction, on and back
};

constexpr int64_t kBandPixels = 1 << 13;

inline int64_t num_bands(int64_t num_pixels) {
  return (num_pixels + kBandPixels - 1) / kBandPixels;
}

// The lattice of points (num_pixels, num_features) of unit standard deviation; 2 or 5 features.
//
// Throws if the points spread too far for the keys of its vertices: 2^62 of them.
Lattice build_lattice(const float* points, int64_t num_pixels, int64_t num_features);

}  // namespace deeplab2_d2
