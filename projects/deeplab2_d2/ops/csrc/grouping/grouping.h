// Pixels to their nearest centers.
//
// The contract is the docstring of `deeplab2_d2.ops.group_pixels`.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <vector>

namespace deeplab2_d2 {

inline void check_centers(const char* name, const at::Tensor& centers,
                          const at::Tensor& num_centers, int64_t num_images) {
  TORCH_CHECK(centers.dim() == 3 && centers.size(0) == num_images && centers.size(2) == 2, name,
              ": centers must be (", num_images, ", K, 2), got ", centers.sizes());
  TORCH_CHECK(centers.scalar_type() == at::kFloat, name, ": centers must be float32, got ",
              centers.dtype());
  TORCH_CHECK(num_centers.dim() == 1 && num_centers.size(0) == num_images, name,
              ": num_centers must be (", num_images, ",), got ", num_centers.sizes());
  TORCH_CHECK(num_centers.scalar_type() == at::kInt, name, ": num_centers must be int32, got ",
              num_centers.dtype());
  TORCH_CHECK(centers.device() == num_centers.device(), name,
              ": centers and num_centers must be on one device, got ", centers.device(), " and ",
              num_centers.device());
}

// The centers of one image, as two arrays.
struct CenterList {
  // Takes the first `count` (limited to 0 .. `rows`) of (rows, 2) `(y, x)`.
  CenterList(const float* centers, int64_t rows, int64_t count);

  int64_t size() const { return y.size(); }

  std::vector<float> y, x;
};

// Memory that the grouping of a row needs, allocated once.
struct GroupingScratch {
  explicit GroupingScratch(int64_t num_centers);

  std::vector<int32_t> candidates;
  std::vector<float> lower_bounds;
};

// Nearest centers of the pixels x = 0 .. width - 1 of row y.
//
// offset_y, offset_x: (width) float; `wanted`: pixels whose result counts, or null for all;
// nearest: (width) out, k + 1, or 0 if there is no center.
void group_row(const CenterList& centers, int64_t y, const float* offset_y, const float* offset_x,
               const uint8_t* wanted, int64_t width, GroupingScratch& scratch, int32_t* nearest);

}  // namespace deeplab2_d2
